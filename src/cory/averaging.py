"""Averages of weights: of one agent over time, and of a team over its agents.

Models that start as one and learn one task have a mean that works (Ramé et al., WARP, arXiv
2406.16768): about their reward, nearer to where they started.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cory.config import CORYConfig


@contextmanager
def replaced(weights: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Put other values into weights; afterwards they have their own again, bit for bit."""
    own = [weight.detach().clone() for weight in weights]
    try:
        _put(values, weights)
        yield
    finally:
        _put(own, weights)


@torch.no_grad()
def _put(values: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


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

    @classmethod
    def from_config(cls, weights: Sequence[nn.Parameter], args: CORYConfig) -> WeightAverage | None:
        """None unless the settings ask for it: the copy costs memory."""
        if args.weight_average_decay is None:
            return None
        return cls(weights, args.weight_average_decay)

    @torch.no_grad()
    def follow(self) -> None:
        """Include the weights as they are now; once after each iteration."""
        self.count += 1
        rate = max(1 - self.decay, 1 / self.count)
        for average, weight in zip(self.average, self.weights, strict=True):
            average.lerp_(weight.float(), rate)
