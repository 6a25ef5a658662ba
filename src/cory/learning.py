"""The loss of one agent on a micro-batch, and its gradient."""

from __future__ import annotations

from torch import Tensor

from cory import losses
from cory.batch import to_rows
from cory.config import CORYConfig
from cory.lessons import Lesson
from cory.penalties import KLPenalty, LiveTokens
from cory.policy import LanguageModel, Policy


def add_gradient(
    lesson: Lesson,
    num_tokens: int,
    policy: Policy,
    reference: LanguageModel,
    penalty: KLPenalty,
    args: CORYConfig,
) -> dict[str, Tensor]:
    """Add the gradient of the loss (Eq 10–13) on a micro-batch to the policy's.

    Args:
        lesson: the micro-batch.
        num_tokens: response tokens of the whole mini-batch, by which losses are divided.
        policy: what learns.
        reference: the frozen initial model, read where the KL stands in the loss.
        penalty: the KL estimate there.
        args: settings.

    Returns:
        statistics that add up to the mini-batch's, but for `ratio_error`, which is a maximum.
    """
    mask = lesson.batch.response_mask
    hidden = policy.response_hidden(lesson.batch)
    tokens = lesson.batch.response_tokens
    flat_logprobs = policy.logprobs(hidden, tokens, args.temperature)
    logprobs = to_rows(flat_logprobs, mask)
    policy_part = lesson.policy_loss(
        logprobs, lesson.old_logprobs, lesson.advantages, mask, args.cliprange, num_tokens
    )
    loss = policy_part.loss
    statistics = {
        "policy_loss": policy_part.loss,
        "clip_fraction": policy_part.clip_fraction,
        "approx_kl": policy_part.approx_kl,
        "ratio_error": (logprobs - lesson.old_logprobs)[mask].exp().sub(1).abs().max(),
    }
    if lesson.old_values is not None and lesson.returns is not None:
        value_part = losses.value_loss(
            to_rows(policy.values(hidden), mask),
            lesson.old_values,
            lesson.returns,
            mask,
            args.cliprange_value,
            num_tokens,
        )
        loss = loss + args.vf_coef * value_part.loss
        statistics["value_loss"] = value_part.loss
        statistics["value_clip_fraction"] = value_part.clip_fraction
    if lesson.kl_weight is not None and lesson.ref_logprobs is not None:
        live = LiveTokens(
            hidden=hidden,
            logprobs=flat_logprobs,
            ref_logprobs=lesson.ref_logprobs[mask],
            ref_hidden=None if lesson.ref_hidden is None else lesson.ref_hidden[mask],
        )
        kl = penalty.while_learning(live, policy, reference, args.temperature)
        kl_loss = kl.sum() / num_tokens
        loss = loss + lesson.kl_weight * kl_loss
        statistics["kl_loss"] = kl_loss
    (lesson.weight * loss).backward()
    return {key: statistic.detach() for key, statistic in statistics.items()}
