"""What an update computes of the current weights at each response token, over the vocabulary.

Legend: N response tokens of all sequences together, V vocabulary, D hidden size.
"""

from __future__ import annotations

from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cory.algorithm import losses
from cory.algorithm.filtering import restricted_to
from cory.models.logprobs import token_logprobs
from cory.models.policy import LanguageModel, by_pieces


def live_logprobs(
    policy: LanguageModel,
    hidden: Float[Tensor, "N D"],
    tokens: Int[Tensor, " N"],
    temperature: float,
    kept: UInt8[Tensor, "N _"] | None = None,
) -> Float[Tensor, " N"]:
    """Log-probability of each token in the distribution that it was drawn from; differentiable.

    Args:
        policy: what learns.
        hidden: last hidden states.
        tokens: that were drawn.
        temperature: of sampling.
        kept: the tokens that could be drawn (`filtering.packed`); None: all.
    """
    if kept is None:
        return policy.logprobs(hidden, tokens, temperature)

    def logprobs(hidden_piece: Tensor, tokens_piece: Tensor, kept_piece: Tensor) -> Tensor:
        logits = policy.logits(hidden_piece, temperature)
        return token_logprobs(restricted_to(logits, kept_piece), tokens_piece)

    return by_pieces(logprobs, policy, hidden, tokens, kept)


def live_entropy(
    policy: LanguageModel,
    hidden: Float[Tensor, "N D"],
    temperature: float,
    kept: UInt8[Tensor, "N _"] | None = None,
) -> Float[Tensor, " N"]:
    """Entropy of the next-token distribution in nats, differentiable; arguments as above."""

    def entropy(hidden_piece: Tensor, kept_piece: Tensor | None) -> Tensor:
        return losses.entropy(restricted_to(policy.logits(hidden_piece, temperature), kept_piece))

    return by_pieces(entropy, policy, hidden, kept)
