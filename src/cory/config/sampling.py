"""Settings of the distribution that answers are drawn from, beside `temperature`. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from cory.config.fields import ABOVE_ZERO_TO_ONE, BELOW_ONE, TOP_K, setting


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Filters of the next-token distribution, in the order min_p, top_k, top_p.

    What is left is renormalised, and this distribution is the one that is sampled, scored and
    learnt, by the agents and by the frozen reference, during evaluations as well.
    """

    top_p: float = setting(1.0, ABOVE_ZERO_TO_ONE)
    """Keep the likeliest tokens whose probabilities add up to this. 1: all tokens."""
    top_k: int = setting(0, TOP_K)
    """Keep this many of the likeliest tokens. 0: all tokens."""
    min_p: float = setting(0.0, BELOW_ONE)
    """Keep tokens that have at least this share of the probability of the likeliest one. 0: all
    tokens."""
