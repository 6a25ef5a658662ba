"""Averages of weights: of one agent over time, and of a team over its agents.

Models that start as one and learn one task have a mean that works (Ramé et al., WARP, arXiv
2406.16768): about their reward, nearer to where they started.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from cory.models.policy import Policy
from cory.models.weights import weighted_sum

LARGEST_SHARE = 1000
"""Of an agent in a mean; more of it is rounding than weights."""


class WeightAverage:
    """The moving average of an agent's weights over iterations, in float32.

        θ̄_k = θ̄_{k−1} + max(1 − d, 1 / k) (θ_k − θ̄_{k−1})        after iteration k = 1, 2, …

    The plain mean of all iterations until there are 1 / (1 − d) of them, so that the initial
    weights have no part in it; an exponential moving average from then on. d = 1 stays the mean.

    Args:
        weights: the language-model weights of one agent, which go on being trained.
        decay: d.
    """

    def __init__(self, weights: Sequence[nn.Parameter], decay: float) -> None:
        self.weights = list(weights)
        self.decay = decay
        self.count = 0
        self.average = [weight.detach().float().clone() for weight in self.weights]

    @torch.no_grad()
    def follow(self) -> None:
        """Include the weights as they are now; once after each iteration."""
        self.count += 1
        rate = max(1 - self.decay, 1 / self.count)
        for average, weight in zip(self.average, self.weights, strict=True):
            average.lerp_(weight.float(), rate)


@contextmanager
def merged(policies: Sequence[Policy], shares: Sequence[float] | None = None) -> Iterator[Policy]:
    """The mean of some agents, as one policy that exists while the context lasts.

    See `Weights.merged`. The mean of one agent is this agent. Its value head is new: what agents
    expect to be paid is no part of what they answer.

    Args:
        shares: of each policy, divided by their sum; None: all equal.

    Raises:
        ValueError: there is not one share per policy, one is nan, or they add up to about 0.
    """
    shares = [1.0] * len(policies) if shares is None else list(shares)
    total = sum(shares)
    largest = LARGEST_SHARE * abs(total) if math.isfinite(total) else 0.0
    if len(shares) != len(policies) or not total or any(not abs(s) <= largest for s in shares):
        raise ValueError(
            f"weights={shares!r:.300} must be one number per agent ({len(policies)} of them) with "
            f"a sum other than 0, none larger than {LARGEST_SHARE} times that sum"
        )
    first, *others = [policy.weights for policy in policies]
    with first.merged(others, [share / total for share in shares]) as weights:
        yield Policy(weights, policies[0].bf16)


@torch.no_grad()
def interpolate_to_mean(policies: Sequence[Policy], share: float) -> None:
    """Move all that each agent trains, its value head too, towards the team's mean.

        θ_i ← θ_i + share · (mean θ − θ_i)        share 1: all are the mean

    The numbers change in place, so that optimizer moments stay with their agents. Of adapters it
    is the factors that are averaged, tensor by tensor: their product is then not the mean update,
    which an adapter of the same rank cannot hold in general.
    """
    for same in zip(*(policy.trainable_parameters() for policy in policies), strict=True):
        mean = weighted_sum(same, [1 / len(same)] * len(same))
        for weight in same:
            weight.copy_(weight.to(mean.dtype).lerp(mean, share))
