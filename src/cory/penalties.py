"""The KL penalty by name: from stored scores for the reward, from live weights for the loss.

Legend: B sequences, T response columns, N response tokens of all sequences together, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from cory.losses import KL_ESTIMATORS
from cory.policy import LanguageModel, TokenScores, differentiable_full_kl


class KLPenalty(Protocol):
    """KL of the policy to the frozen initial model, per response token, in nats."""

    needs_ref_hidden: bool
    """Whether `while_learning` reads the reference's hidden states."""

    def when_sampled(self, scores: TokenScores) -> Float[Tensor, "B T"]:
        """The penalty of the sampled responses, a constant."""
        ...

    def while_learning(
        self,
        policy: LanguageModel,
        reference: LanguageModel,
        hidden: Float[Tensor, "N D"],
        logprobs: Float[Tensor, " N"],
        ref_hidden: Float[Tensor, "N D"] | None,
        ref_logprobs: Float[Tensor, " N"],
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
        self, policy, reference, hidden, logprobs, ref_hidden, ref_logprobs, temperature
    ) -> Float[Tensor, " N"]:
        return self.estimate(logprobs, ref_logprobs)


class FullKL:
    """The KL over the whole vocabulary (Eq 2)."""

    needs_ref_hidden = True

    def when_sampled(self, scores: TokenScores) -> Float[Tensor, "B T"]:
        return scores.full_kl

    def while_learning(
        self, policy, reference, hidden, logprobs, ref_hidden, ref_logprobs, temperature
    ) -> Float[Tensor, " N"]:
        return differentiable_full_kl(policy, hidden, reference, ref_hidden, temperature)


KL_PENALTIES: dict[str, KLPenalty] = {
    "full": FullKL(),
    **{name: SampledKL(estimate) for name, estimate in KL_ESTIMATORS.items()},
}

