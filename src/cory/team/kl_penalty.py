"""The KL penalty by name, and where it goes: scores for the reward, live weights for the loss.

Legend: B sequences, T response columns, N response tokens of all sequences together, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cory.algorithm.losses import KL_ESTIMATORS, kl_to_come
from cory.models.policy import LanguageModel, differentiable_full_kl
from cory.models.scoring import TokenScores


@dataclass(frozen=True)
class LiveTokens:
    """Response tokens under the weights that are being trained.

    `ref_hidden` is there if the penalty needs it; `kept` are the tokens that could be drawn, None
    if all could.
    """

    hidden: Float[Tensor, "N D"]
    logprobs: Float[Tensor, " N"]
    ref_logprobs: Float[Tensor, " N"]
    ref_hidden: Float[Tensor, "N D"] | None
    kept: UInt8[Tensor, "N _"] | None = None


@dataclass(frozen=True)
class KLPenalty:
    """KL of the policy to the frozen initial model, per response token, in nats."""

    estimate: Callable[[Tensor, Tensor], Tensor] | None
    """From `(logprobs, ref_logprobs)` of the sampled tokens; None: over all tokens (Eq 2)."""

    @property
    def needs_ref_hidden(self) -> bool:
        """Whether `while_learning` reads the reference's hidden states."""
        return self.estimate is None

    def when_sampled(self, scores: TokenScores) -> Float[Tensor, "B T"]:
        """The penalty of the sampled responses, a constant."""
        if self.estimate is None:
            return scores.full_kl
        return self.estimate(scores.logprobs, scores.ref_logprobs)

    def while_learning(
        self,
        tokens: LiveTokens,
        policy: LanguageModel,
        reference: LanguageModel,
        temperature: float,
    ) -> Float[Tensor, " N"]:
        """The penalty of the current weights, differentiable."""
        if self.estimate is not None:
            return self.estimate(tokens.logprobs, tokens.ref_logprobs)
        assert tokens.ref_hidden is not None, "needs_ref_hidden"
        return differentiable_full_kl(
            policy, tokens.hidden, reference, tokens.ref_hidden, temperature, tokens.kept
        )


KL_PENALTIES = {name: KLPenalty(estimate) for name, estimate in KL_ESTIMATORS.items()}
KL_PENALTIES["full"] = KLPenalty(None)
"""By the name in `CORYConfig.kl_estimator`."""


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
    "reward": KLPlacement(lambda kl, response_mask, gamma: kl, in_loss=False),
    "loss": KLPlacement(lambda kl, response_mask, gamma: torch.zeros_like(kl), in_loss=True),
    "both": KLPlacement(kl_to_come, in_loss=True, follows_whitening=True),
}
"""By the name in `CORYConfig.kl_placement`."""
