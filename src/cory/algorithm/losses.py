"""The mathematics of one update: KL, token rewards, clipped losses and what is measured on them.

Pure functions of tensors; B sequences, T response tokens, V vocabulary; KL and entropy in nats.

`response_mask` is True on response tokens, up to and including EOS. On padding every result is
exactly 0 and every gradient too, whatever the inputs hold there, nan and inf included.

A loss is a sum over response tokens divided by `num_tokens`, the number of response tokens of the
whole mini-batch. The caller passes it in, so that the losses, gradients and statistics of the
micro-batches add up to those of the mini-batch, however it is split.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

Scalar = float | Num[Tensor, ""]


def zero_padding(
    values: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Keep the response tokens and set all else to 0.

    Called on the inputs of a function, before any exp: masking its result instead would leave
    0 · inf = nan in the gradient.
    """
    return torch.where(response_mask, values, 0.0)


def masked_mean(
    values: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Mean over all response tokens of the batch; 0 if there are none."""
    return zero_padding(values, response_mask).sum() / response_mask.sum().clamp(min=1)


def masked_whiten(
    values: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Shift and scale to mean 0 and variance 1 over all response tokens of the batch.

        (x − mean) / (std + 1e-8)        std over all tokens, not unbiased

    Degenerate case: equal values, hence also a single token, become exactly 0. The values are
    first taken relative to their minimum: the rounding error of a mean of equal values would
    otherwise be as large as the 1e-8 that it is divided by.
    """
    minimum = values.masked_fill(~response_mask, math.inf).amin()
    centred = values - minimum
    centred = zero_padding(centred - masked_mean(centred, response_mask), response_mask)
    std = masked_mean(centred.square(), response_mask).sqrt()
    return centred / (std + 1e-8)


def _log_softmax(logits: Float[Tensor, "*batch V"]) -> Float[Tensor, "*batch V"]:
    """Log-probabilities, in float32 at least: bfloat16 keeps three digits of a logit."""
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def entropy(logits: Float[Tensor, "*batch V"]) -> Float[Tensor, "*batch"]:
    """Entropy of the next-token distribution, −Σ_w π(w) log π(w).

    Logits must be finite: exclude a token by a large negative logit, not by −inf.
    """
    return entropy_of(_log_softmax(logits))


def entropy_of(logprobs: Float[Tensor, "*batch V"]) -> Float[Tensor, "*batch"]:
    """`entropy`, from log-probabilities of the whole vocabulary."""
    return -(logprobs.exp() * logprobs).sum(-1)


def full_kl(
    logits: Float[Tensor, "*batch V"], ref_logits: Float[Tensor, "*batch V"]
) -> Float[Tensor, "*batch"]:
    """KL divergence of the policy from the reference, summed over the vocabulary (Eq 2).

        KL(π ‖ π_0) = Σ_w π(w) (log π(w) − log π_0(w))

    Differentiable in `logits`. Computed in float32 at least. Logits must be finite, as for
    `entropy`.
    """
    return full_kl_of(_log_softmax(logits), _log_softmax(ref_logits))


def full_kl_of(
    logprobs: Float[Tensor, "*batch V"], ref_logprobs: Float[Tensor, "*batch V"]
) -> Float[Tensor, "*batch"]:
    """`full_kl`, from log-probabilities of the whole vocabulary.

    Σ π_0 − Σ π is added, which is 0 but for rounding. It takes away what the rounding of the two
    normalisers puts into the sum, so that of models that agree to 1e-6 the KL is 1e-9, not 1e-6.
    """
    probs, ref_probs = logprobs.exp(), ref_logprobs.exp()
    return (probs * (logprobs - ref_logprobs) + (ref_probs - probs)).sum(-1)


def k1(
    logprobs: Float[Tensor, "*batch"], ref_logprobs: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The log-ratio, log π(w) − log π_0(w): unbiased for tokens w sampled from π; any sign."""
    return logprobs - ref_logprobs


def k2(
    logprobs: Float[Tensor, "*batch"], ref_logprobs: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Half the squared log-ratio (Schulman 2020): biased, never negative.

    As a loss it has, for tokens sampled from π, the gradient of the full KL of that token. TRL
    0.11 calls the same function `mse`.
    """
    return 0.5 * (logprobs - ref_logprobs).square()


def k3(
    logprobs: Float[Tensor, "*batch"], ref_logprobs: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """π_0(w)/π(w) − 1 − log(π_0(w)/π(w)) (Schulman 2020): unbiased, never negative.

    Far from the reference its mean hangs on rare tokens, which a sample misses: it reads low. As
    a loss it has, for tokens sampled from π, the gradient of the reversed KL(π_0 ‖ π).
    """
    log_ratio = ref_logprobs - logprobs
    return log_ratio.expm1() - log_ratio


def absolute(
    logprobs: Float[Tensor, "*batch"], ref_logprobs: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Absolute log-ratio: biased, never negative; a distance rather than an estimate of the KL."""
    return (logprobs - ref_logprobs).abs()


KL_ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "k1": k1,
    "k2": k2,
    "k3": k3,
    "abs": absolute,
    "mse": k2,
}
"""Estimates of the KL from the sampled tokens alone, `(logprobs, ref_logprobs) -> kl`.

They do not know of padding: where one is differentiated, call it on `zero_padding(…)` of both.
`full` is not among them. It needs the logits and is computed where these live, by `full_kl`.
"""


def token_rewards(
    team_reward: Float[Tensor, " B"],
    kl: Float[Tensor, "B T"],
    response_mask: Bool[Tensor, "B T"],
    kl_coef: Scalar,
) -> Float[Tensor, "B T"]:
    """Pay −η·KL on every response token and the team reward on the last one (Eq 2, 4 and 8).

        r̂_t = −η·KL_t + [t is the last response token] · r_team

    `kl` may come from any estimator. A sequence without response tokens is paid nothing.
    """
    num_tokens_left = response_mask.flip(1).cumsum(1).flip(1)
    is_last_token = response_mask & (num_tokens_left == 1)
    penalties = kl_coef * zero_padding(kl, response_mask)
    return torch.where(is_last_token, team_reward[:, None], 0.0) - penalties


def kl_to_come(
    kl: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], gamma: float
) -> Float[Tensor, "B T"]:
    """γ · KL of the next response token: what the choice of a token can still change.

    The full KL of a token depends on the tokens before it, so it answers for the choice of the
    token before; the last token has none to come.
    """
    to_come = torch.zeros_like(kl)
    next_kl = kl.new_zeros(len(kl))
    for t in reversed(range(kl.shape[1])):
        to_come[:, t] = gamma * next_kl
        next_kl = torch.where(response_mask[:, t], kl[:, t], next_kl)
    return zero_padding(to_come, response_mask)


class PolicyLoss(NamedTuple):
    """Sums over response tokens, divided by `num_tokens`; only `loss` carries a gradient."""

    loss: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]
    """Share of tokens on which the clip is active, so that they give no gradient."""
    approx_kl: Float[Tensor, ""]
    """How far the update has moved the policy: KL(old ‖ current) per token, by k3."""


ClipRange = float | tuple[float, float]
"""How far a ratio may be from 1: on both sides, or below it and above it."""


def policy_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    response_mask: Bool[Tensor, "B T"],
    cliprange: ClipRange,
    num_tokens: Scalar,
) -> PolicyLoss:
    """The clipped objective of PPO (Schulman et al., arXiv 1707.06347, Eq 7), negated.

        ρ_t  = exp(logprobs_t − old_logprobs_t)
        loss = Σ_t max(−A_t ρ_t, −A_t clip(ρ_t, 1 − ε, 1 + ε_high)) / num_tokens

    One `cliprange` is ε and ε_high; DAPO has two (arXiv 2503.14476, Eq 10). Homogeneous in the
    advantages: a token with w times its advantage counts w times (`policy_losses.LOSS_WEIGHTS`).
    `num_tokens` must be positive: a mini-batch without response tokens has no loss.
    """
    log_ratio = zero_padding(logprobs - old_logprobs, response_mask)
    return clipped_loss(
        log_ratio, log_ratio, zero_padding(advantages, response_mask), cliprange, num_tokens
    )


def clipped_loss(
    log_ratio: Float[Tensor, "B T"],
    clipped_log_ratio: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    cliprange: ClipRange,
    num_tokens: Scalar,
) -> PolicyLoss:
    """`policy_loss` from log-ratios: those of the tokens, and those of which ρ is made."""
    low, high = cliprange if isinstance(cliprange, tuple) else (cliprange, cliprange)
    ratio = clipped_log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - low, 1 + high)
    return PolicyLoss(
        loss=torch.maximum(unclipped, clipped).sum() / num_tokens,
        clip_fraction=(clipped > unclipped).sum() / num_tokens,
        approx_kl=(log_ratio.expm1() - log_ratio).detach().sum() / num_tokens,
    )


class ValueLoss(NamedTuple):
    """Sums over response tokens, divided by `num_tokens`; only `loss` carries a gradient."""

    loss: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]
    """Share of tokens on which the clip is active, so that they give no gradient."""


def value_loss(
    values: Float[Tensor, "B T"],
    old_values: Float[Tensor, "B T"],
    returns: Float[Tensor, "B T"],
    response_mask: Bool[Tensor, "B T"],
    cliprange_value: float | None,
    num_tokens: Scalar,
) -> ValueLoss:
    """Squared error of the value function, clipped around its old values as in OpenAI's PPO.

        v̄_t  = clip(v_t, v_old_t − ε, v_old_t + ε)
        loss = ½ Σ_t max((v_t − R_t)², (v̄_t − R_t)²) / num_tokens

    `cliprange_value=None` does not clip. The paper's weight β (`vf_coef`) is the caller's.
    """
    limit = math.inf if cliprange_value is None else cliprange_value
    values = zero_padding(values, response_mask)
    old_values = zero_padding(old_values, response_mask)
    returns = zero_padding(returns, response_mask)
    # Clamped between bounds, not as old + clamp(new − old): that sum rounds, and would count
    # tokens as clipped that are not.
    unclipped = (values - returns).square()
    clipped = (values.clamp(old_values - limit, old_values + limit) - returns).square()
    return ValueLoss(
        loss=0.5 * torch.maximum(unclipped, clipped).sum() / num_tokens,
        clip_fraction=(clipped > unclipped).sum() / num_tokens,
    )


def next_kl_coef(
    kl_coef: float, observed_kl: float, kl_target: float, num_samples: int, kl_horizon: int
) -> float:
    """Move η so that the KL per sequence tends to its target (Ziegler et al., arXiv 1909.08593).

        e  = clip(observed / target − 1, −0.2, 0.2)
        η ← η · (1 + e · num_samples / horizon)

    KLs in nats per sequence, target positive. η stays positive while `num_samples`, the sequences
    since the last call, is below five horizons.
    """
    error = min(max(observed_kl / kl_target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * num_samples / kl_horizon)
