"""Filters of the next-token distribution: which tokens are kept, and what is left.

Pure functions of tensors; N tokens, V vocabulary. With K the set that the weights which draw a
token keep in a state s, the distribution that is sampled is

    π_K(w | s) = π(w | s) / Σ_{v ∈ K} π(v | s)        w ∈ K, else 0

K is a constant of the update, like an old log-probability. The ratio π_K / π_old,K is then one
between two distributions on the same tokens: it is 1 before the first step, and its mean under
π_old,K is 1 at any time. A ratio of unfiltered probabilities has another mean, and with a K of the
new weights a sampled token could have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

EXCLUDED = torch.finfo(torch.float32).min / 2
"""Logit of a token that is not kept: its probability is 0, and 0 times its logarithm is 0."""
BITS = 8


@dataclass(frozen=True)
class TokenFilter:
    """Which tokens may be drawn, by `min_p`, then `top_k`, then `top_p`: vLLM's order.

    Each sees what the one before has left, renormalised. Tokens as likely as the last one kept are
    kept too, so the set does not depend on the order of the vocabulary. The likeliest token is
    always in it.

    >>> logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    >>> TokenFilter(top_p=0.7).kept(logits).tolist()
    [[True, True, False, False]]
    """

    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    @classmethod
    def of(cls, args: Any) -> TokenFilter:
        """The filter of the settings `top_p`, `top_k` and `min_p`."""
        return cls(args.top_p, args.top_k, args.min_p)

    @property
    def is_on(self) -> bool:
        """Whether any token is ever left out."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0

    def kept(self, logits: Float[Tensor, "N V"]) -> Bool[Tensor, "N V"]:
        """True on the tokens that may be drawn."""
        kept = torch.ones_like(logits, dtype=torch.bool)
        if self.min_p > 0:
            probs = logits.softmax(-1)
            kept = probs >= self.min_p * probs.amax(-1, keepdim=True)
        if 0 < self.top_k < logits.shape[-1]:
            left = restricted(logits, kept)
            kept = kept & (left >= left.topk(self.top_k, -1).values[:, -1:])
        if self.top_p < 1:
            left = restricted(logits, kept)
            ordered = left.sort(-1, descending=True).values
            sums = ordered.softmax(-1).cumsum(-1)
            # A token is needed while those before it do not add up to top_p.
            is_needed = pad(sums[:, :-1], (1, 0)) < self.top_p
            num_needed = is_needed.sum(-1, keepdim=True).clamp(min=1)
            kept = kept & (left >= ordered.gather(-1, num_needed - 1))
        return kept

    def applied(self, logits: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
        """Logits of the filtered distribution; the same object if there is no filter."""
        return restricted(logits, self.kept(logits)) if self.is_on else logits

    def kept_with(
        self, logits: Float[Tensor, "N V"], tokens: Int[Tensor, " N"]
    ) -> UInt8[Tensor, "N _"]:
        """`packed` kept sets that hold the tokens that were drawn.

        Logits that were computed in another shape, or by another engine, may differ in the last
        digit, and a token at the border would be left out.
        """
        return packed(self.kept(logits).scatter(-1, tokens[:, None], True))


WHOLE_DISTRIBUTION = TokenFilter()
"""Every token may be drawn."""


def restricted(logits: Float[Tensor, "N V"], kept: Bool[Tensor, "N V"]) -> Float[Tensor, "N V"]:
    """Logits of the distribution on the kept tokens alone; finite, with a gradient on these."""
    return logits.masked_fill(~kept, EXCLUDED)


def restricted_to(
    logits: Float[Tensor, "N V"], kept: UInt8[Tensor, "N _"] | None
) -> Float[Tensor, "N V"]:
    """`restricted`, from `packed` sets; None: all tokens are kept."""
    return logits if kept is None else restricted(logits, unpacked(kept, logits.shape[-1]))


def packed(kept: Bool[Tensor, "N V"]) -> UInt8[Tensor, "N _"]:
    """Truth values as bits: a thirty-second of what logits take.

    >>> packed(torch.tensor([[True, False, True]])).tolist()
    [[5]]
    """
    missing = -kept.shape[-1] % BITS
    bits = pad(kept, (0, missing)).unflatten(-1, (-1, BITS))
    return (bits * _powers(kept.device)).sum(-1, dtype=torch.uint8)


def unpacked(bits: UInt8[Tensor, "N _"], size: int) -> Bool[Tensor, "N V"]:
    """The truth values that were `packed`, `size` in a row."""
    return (bits[..., None] & _powers(bits.device)).bool().flatten(-2)[..., :size]


def _powers(device: torch.device) -> Tensor:
    return 2 ** torch.arange(BITS, device=device, dtype=torch.uint8)
