"""Policy losses by name, and how much each token counts in them.

Pure functions of tensors; see `losses` for shapes, masks and `num_tokens`. All policy losses take
the same arguments, so that one can stand where another does.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cory.algorithm.losses import (
    ClipRange,
    PolicyLoss,
    Scalar,
    clipped_loss,
    policy_loss,
    zero_padding,
)


def token_log_ratio(
    log_ratio: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Each token's own."""
    return log_ratio


def mean_log_ratio(
    log_ratio: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """That of the geometric mean of an answer's ratios; padding must be 0."""
    lengths = response_mask.sum(1, keepdim=True).clamp(min=1)
    return (log_ratio.sum(1, keepdim=True) / lengths).expand_as(log_ratio)


def whole_log_ratio(
    log_ratio: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """That of the product of an answer's ratios; padding must be 0."""
    return log_ratio.sum(1, keepdim=True).expand_as(log_ratio)


LOG_RATIOS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "token": token_log_ratio,
    "sequence": mean_log_ratio,
    "sequence_product": whole_log_ratio,
}
"""`(log_ratio, response_mask) -> log_ratio` by the name in `importance_sampling_level`."""


def sequence_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    response_mask: Bool[Tensor, "B T"],
    cliprange: ClipRange,
    num_tokens: Scalar,
) -> PolicyLoss:
    """`policy_loss` with one ratio per answer, the geometric mean of its tokens'.

        ρ = exp(mean_t(logprobs_t − old_logprobs_t))        the same for all tokens of an answer

    GSPO (Zheng et al., arXiv 2507.18071, Eq 5–7), where the loss weights are those of `grpo`. An
    answer is clipped as a whole. At ρ = 1 the gradient is that of `policy_loss`, provided that
    all tokens of an answer have one advantage.
    """
    log_ratio = zero_padding(logprobs - old_logprobs, response_mask)
    of_answer = mean_log_ratio(log_ratio, response_mask)
    advantages = zero_padding(advantages, response_mask)
    return clipped_loss(log_ratio, of_answer, advantages, cliprange, num_tokens)


def sequence_product_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    response_mask: Bool[Tensor, "B T"],
    cliprange: ClipRange,
    num_tokens: Scalar,
) -> PolicyLoss:
    """`policy_loss` with one ratio per answer, the product of its tokens'.

        ρ = exp(Σ_t (logprobs_t − old_logprobs_t)) = π(answer) / π_old(answer)

    RLOO (arXiv 2402.14740) with a clip, as in TRL: the whole answer is one action. With the loss
    weights of `grpo` it is the mean over answers of max(−A ρ, −A clip(ρ)).
    """
    log_ratio = zero_padding(logprobs - old_logprobs, response_mask)
    of_answer = whole_log_ratio(log_ratio, response_mask)
    advantages = zero_padding(advantages, response_mask)
    return clipped_loss(log_ratio, of_answer, advantages, cliprange, num_tokens)


POLICY_LOSSES: dict[str, Callable[..., PolicyLoss]] = {
    "token": policy_loss,
    "sequence": sequence_loss,
    "sequence_product": sequence_product_loss,
}
"""By the name in `CORYConfig.importance_sampling_level`."""


def likelihood_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    response_mask: Bool[Tensor, "B T"],
    cliprange: ClipRange,
    num_tokens: Scalar,
) -> PolicyLoss:
    """The weighted likelihood, negated: what `policy_loss` is without ratio and clip.

    loss = −Σ_t A_t log π(w_t) / num_tokens
    """
    log_ratio = zero_padding(logprobs - old_logprobs, response_mask)
    weighted = zero_padding(advantages, response_mask) * zero_padding(logprobs, response_mask)
    return PolicyLoss(
        loss=-weighted.sum() / num_tokens,
        clip_fraction=torch.zeros_like(log_ratio.sum()),
        approx_kl=(log_ratio.expm1() - log_ratio).detach().sum() / num_tokens,
    )


LossWeights = Callable[[Tensor, float, int], Tensor]
"""`(response_mask, tokens_per_mini_batch, max_completion_length) -> weights` (B, 1)."""


def equal_over_the_iteration(
    response_mask: Bool[Tensor, "B T"], tokens_per_mini_batch: float, max_completion_length: int
) -> Float[Tensor, "B 1"]:
    """Weights by which a token counts the same in every mini-batch of an iteration.

        w = tokens of the mini-batch / tokens_per_mini_batch

    As TRL's `dapo`. With one mini-batch it is 1.
    """
    weight = response_mask.sum() / tokens_per_mini_batch
    return weight.expand(len(response_mask), 1)


def equal_per_answer(
    response_mask: Bool[Tensor, "B T"], tokens_per_mini_batch: float, max_completion_length: int
) -> Float[Tensor, "B 1"]:
    """Weights by which every answer counts the same, however long it is.

        w_i = tokens of the mini-batch / (answers · tokens of answer i)

    The loss is then the mean over answers of the means over their tokens: GRPO (arXiv 2402.03300,
    Eq 3).
    """
    lengths = response_mask.sum(1, keepdim=True).clamp(min=1)
    return response_mask.sum() / (len(response_mask) * lengths)


def equal_per_longest(
    response_mask: Bool[Tensor, "B T"], tokens_per_mini_batch: float, max_completion_length: int
) -> Float[Tensor, "B 1"]:
    """Weights that divide by a constant, so that no length makes a token count less.

        w = tokens of the mini-batch / (answers · max_completion_length)

    Dr. GRPO (arXiv 2503.20783), as in TRL.
    """
    weight = response_mask.sum() / (len(response_mask) * max_completion_length)
    return weight.expand(len(response_mask), 1)


LOSS_WEIGHTS: dict[str, LossWeights | None] = {
    "bnpo": None,
    "dapo": equal_over_the_iteration,
    "grpo": equal_per_answer,
    "dr_grpo": equal_per_longest,
}
"""By the name in `CORYConfig.loss_type`: what a token's share of the loss is multiplied by.

The loss stays a sum divided by the tokens of the mini-batch, so a weight of 1 is their mean; None
is 1 for all. The functions take a whole mini-batch, since its micro-batches must add up.
"""
