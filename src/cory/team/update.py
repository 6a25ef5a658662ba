"""Loss of one agent on its micro-batches, its gradient, and the check that both are finite.

Legend: B sequences, T response columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from cory.algorithm import losses
from cory.config import CORYConfig
from cory.io.errors import CoryRuntimeError
from cory.models.batch import Batch, to_rows
from cory.models.cpu import side_by_side
from cory.models.live import live_entropy, live_logprobs
from cory.models.policy import LanguageModel, Policy
from cory.models.weights import FullCopy
from cory.team.kl_penalty import KLPenalty, LiveTokens
from cory.team.train_samples import TrainSamples

Piece = TypeVar("Piece")
Loss = tuple[Tensor, dict[str, Tensor]]
"""A loss, and statistics without a gradient."""


def add_gradients(
    loss_of: Callable[[Piece], Loss], pieces: Sequence[Piece], policy: Policy
) -> list[dict[str, Tensor]]:
    """Add the gradients of the losses on all pieces to the policy's.

    On a CPU, pieces of a small model are computed side by side. Gradients are added in the order of
    the pieces, so that the sum does not depend on which was done first.

    Returns:
        the statistics of each piece.
    """
    weights = policy.trainable_parameters()

    def differentiate(piece: Piece) -> tuple[Sequence[Tensor | None], dict[str, Tensor]]:
        loss, statistics = loss_of(piece)
        return torch.autograd.grad(loss, weights, allow_unused=True), statistics

    if not _bears_threads(policy):
        return [_backward(*loss_of(piece)) for piece in pieces]
    measured = []
    for gradients, statistics in side_by_side(differentiate, pieces):
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                _add(weight, gradient)
        measured.append(statistics)
    return measured


def _bears_threads(policy: Policy) -> bool:
    """Whether a policy can compute in several threads at once, and gains from it.

    A large one keeps all cores busy with one pass, and has gradients too large to hold several.
    Agents with adapters switch the one base that they share, and sharded weights are gathered.
    """
    return (
        torch.get_num_threads() > 1
        and policy.is_small_on_cpu
        and isinstance(policy.weights, FullCopy)
        and not isinstance(policy, FSDPModule)
    )


def _backward(loss: Tensor, statistics: dict[str, Tensor]) -> dict[str, Tensor]:
    loss.backward()
    return statistics


def _add(weight: nn.Parameter, gradient: Tensor) -> None:
    """What a backward pass does with a gradient, which must lie in memory as its weight does."""
    if weight.grad is not None:
        weight.grad.add_(gradient)
    elif gradient.stride() == weight.stride():
        weight.grad = gradient
    else:
        weight.grad = torch.empty_like(weight).copy_(gradient)


def microbatch_loss(
    samples: TrainSamples,
    num_tokens: int,
    policy: Policy,
    reference: LanguageModel,
    penalty: KLPenalty,
    args: CORYConfig,
) -> Loss:
    """The loss (Eq 10–13) on a micro-batch.

    Args:
        samples: the micro-batch.
        num_tokens: response tokens of the whole mini-batch, by which losses are divided.
        policy: what learns.
        reference: the frozen initial model, read where the KL stands in the loss.
        penalty: the KL estimate there.
        args: settings.

    Returns:
        the loss, and statistics that add up to the mini-batch's, but for `ratio_error`, which is a
        maximum.
    """
    mask = samples.batch.response_mask
    hidden = policy.response_hidden(samples.batch)
    kept = None if samples.kept is None else samples.kept[mask]
    flat_logprobs = live_logprobs(
        policy, hidden, samples.batch.response_tokens, args.temperature, kept
    )
    logprobs = to_rows(flat_logprobs, mask)
    advantages = samples.weighted(samples.advantages)
    policy_part = samples.policy_loss(
        logprobs, samples.old_logprobs, advantages, mask, clip_range(args), num_tokens
    )
    loss = policy_part.loss
    statistics = {
        "policy_loss": policy_part.loss,
        "clip_fraction": policy_part.clip_fraction,
        "approx_kl": policy_part.approx_kl,
        "ratio_error": (logprobs - samples.old_logprobs)[mask].exp().sub(1).abs().max(),
    }
    if samples.old_values is not None and samples.returns is not None:
        values, old_values = to_rows(policy.values(hidden), mask), samples.old_values
        value_part = losses.value_loss(
            values, old_values, samples.returns, mask, args.cliprange_value, num_tokens
        )
        loss = loss + args.vf_coef * value_part.loss
        statistics |= dict(zip(("value_loss", "value_clip_fraction"), value_part, strict=True))
    if samples.kl_weight is not None and samples.ref_logprobs is not None:
        ref_hidden = None if samples.ref_hidden is None else samples.ref_hidden[mask]
        live = LiveTokens(hidden, flat_logprobs, samples.ref_logprobs[mask], ref_hidden, kept)
        kl = penalty.while_learning(live, policy, reference, args.temperature)
        kl = _corrected(kl, logprobs, samples)
        statistics["kl_loss"] = samples.weighted_sum(kl) / num_tokens
        loss = loss + samples.kl_weight * statistics["kl_loss"]
    if samples.entropy_weight:
        entropy = live_entropy(policy, hidden, args.temperature, kept)
        statistics["entropy_loss"] = -entropy.sum() / num_tokens
        loss = loss + samples.entropy_weight * statistics["entropy_loss"]
    return samples.weight * loss, {key: value.detach() for key, value in statistics.items()}


def _corrected(kl: Tensor, logprobs: Tensor, samples: TrainSamples) -> Tensor:
    """The KL of each token times the ratio to the policy that drew it, where that is asked for."""
    if samples.kl_log_ratio is None:
        return kl
    mask = samples.batch.response_mask
    log_ratio = losses.zero_padding(logprobs - samples.old_logprobs, mask)
    return kl * samples.kl_log_ratio(log_ratio, mask).exp()[mask]


def clip_range(args: CORYConfig) -> losses.ClipRange:
    """How far the ratio may be from 1: below, and above if that is something else."""
    high = args.cliprange_high
    return args.cliprange if high is None else (args.cliprange, high)


LARGEST_RUN_OF_SKIPS = 2
"""Optimizer steps in a row that may be skipped; one more stops the run."""


def is_finite(measured: Mapping[str, Tensor]) -> bool:
    """Whether the losses and the gradient of a mini-batch are: only then may a step be taken."""
    decisive = (key for key in measured if key == "grad_norm" or key.endswith("_loss"))
    return all(bool(measured[key].isfinite()) for key in decisive)


class NotFiniteError(CoryRuntimeError):
    """Loss or gradients were nan or inf in one step after the other."""


def not_finite(
    name: str, step: int, policy: Policy, samples: Iterable[TrainSamples], temperature: float
) -> NotFiniteError:
    """The error that ends a run, with the first sample that explains it.

    Args:
        name: of the agent.
        step: of the iteration, from 0 on.
        policy: of the agent, with the weights that it had before the update.
        samples: what the update was to learn from.
        temperature: of sampling.
    """
    found = [_culprit(policy, one, temperature) for one in samples]
    sample = next(filter(None, found), "every sample by itself is finite")
    return NotFiniteError(
        f"{name}: loss or gradients were nan or inf in {LARGEST_RUN_OF_SKIPS + 1} optimizer steps "
        f"in a row, the last in iteration {step + 1}; {sample}. None of them was taken. A lower "
        "learning_rate or float32 in place of bfloat16 may help"
    )


@torch.no_grad()
def _culprit(policy: Policy, one: TrainSamples, temperature: float) -> str:
    """The first sequence with something that is not finite, in words; '' if there is none."""
    batch = one.batch
    known = {
        "log-probabilities when sampled": one.old_logprobs,
        "values": one.old_values,
        "returns": one.returns,
        "advantages": one.advantages,
    }
    for what, numbers in known.items():
        if numbers is not None and not numbers.isfinite().all():
            return _in_words(batch, int((~numbers.isfinite()).any(1).nonzero()[0]), what)
    for row in range(len(batch)):
        alone = batch.select(torch.tensor([row], device=batch.input_ids.device))
        hidden = policy.response_hidden(alone)
        logprobs = policy.logprobs(hidden, alone.response_tokens, temperature)
        for what, now in (("log-probabilities", logprobs), ("values", policy.values(hidden))):
            if not now.isfinite().all():
                return _in_words(batch, row, f"new {what}")
    return ""


def _in_words(batch: Batch, row: int, what: str) -> str:
    ids = batch.input_ids[row, : int(batch.lengths[row])].tolist()
    return f"sample {row} is the first with such {what}; its token ids are {ids}"
