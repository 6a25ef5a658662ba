"""The KL penalty by name, and where it goes: scores for the reward, live weights for the loss.

Legend: B sequences, T response columns, N response tokens of all sequences together, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cory.algorithm.losses import KL_ESTIMATORS, kl_to_come
from cory.models.policy import LanguageModel, differentiable_full_kl
from cory.models.scoring import TokenScores


@dataclass(frozen=True)
class LiveTokens:
    """Response tokens under the weights that are being trained.

    `ref_hidden` is there if the penalty needs it.
    """

    hidden: Float[Tensor, "N D"]
    logprobs: Float[Tensor, " N"]
    ref_logprobs: Float[Tensor, " N"]
    ref_hidden: Float[Tensor, "N D"] | None


@runtime_checkable
class KLPenalty(Protocol):
    """KL of the policy to the frozen initial model, per response token, in nats."""

    needs_ref_hidden: bool
    """Whether `while_learning` reads the reference's hidden states."""

    def when_sampled(self, scores: TokenScores) -> Float[Tensor, "B T"]:
        """The penalty of the sampled responses, a constant."""
        ...

    def while_learning(
        self,
        tokens: LiveTokens,
        policy: LanguageModel,
        reference: LanguageModel,
        temperature: float,
    ) -> Float[Tensor, " N"]:
        """The penalty of the current weights, differentiable."""
        ...


class SampledKL:
    """A penalty computed from the log-probabilities of the sampled tokens alone."""

    needs_ref_hidden = False

    def __init__(self, estimate: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.estimate = estimate

    def when_sampled(self, scores: TokenScores) -> Float[Tensor, "B T"]:
        return self.estimate(scores.logprobs, scores.ref_logprobs)

    def while_learning(
        self,
        tokens: LiveTokens,
        policy: LanguageModel,
        reference: LanguageModel,
        temperature: float,
    ) -> Float[Tensor, " N"]:
        return self.estimate(tokens.logprobs, tokens.ref_logprobs)


class FullKL:
    """The KL over the whole vocabulary (Eq 2)."""

    needs_ref_hidden = True

    def when_sampled(self, scores: TokenScores) -> Float[Tensor, "B T"]:
        return scores.full_kl

    def while_learning(
        self,
        tokens: LiveTokens,
        policy: LanguageModel,
        reference: LanguageModel,
        temperature: float,
    ) -> Float[Tensor, " N"]:
        assert tokens.ref_hidden is not None, "needs_ref_hidden"
        return differentiable_full_kl(
            policy, tokens.hidden, reference, tokens.ref_hidden, temperature
        )


KL_PENALTIES: dict[str, KLPenalty] = {
    "full": FullKL(),
    **{name: SampledKL(estimate) for name, estimate in KL_ESTIMATORS.items()},
}


def _all_of_it(
    kl: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], gamma: float
) -> Float[Tensor, "B T"]:
    return kl


def _nothing(
    kl: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], gamma: float
) -> Float[Tensor, "B T"]:
    return torch.zeros_like(kl)


@dataclass(frozen=True)
class KLPlacement:
    """Which part of the penalty is paid in the reward, and whether the loss has it."""

    in_reward: Callable[[Tensor, Tensor, float], Tensor]
    """`(kl, response_mask, gamma) -> kl`, what each token is charged."""
    in_loss: bool
    """Whether the penalty, differentiable, is a term of the loss."""
    follows_whitening: bool = False
    """Whether that term is divided by what whitening divides the advantages by, so that the two
    parts keep their proportion. (1e-4 is added: no signal must not become all penalty.)"""


KL_PLACEMENTS: dict[str, KLPlacement] = {
    "reward": KLPlacement(_all_of_it, in_loss=False),
    "loss": KLPlacement(_nothing, in_loss=True),
    "both": KLPlacement(kl_to_come, in_loss=True, follows_whitening=True),
}
"""By the name in `CORYConfig.kl_placement`."""
