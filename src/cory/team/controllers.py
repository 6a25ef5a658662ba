"""Small pieces of state that follow an agent: KL coefficient, reward statistics, moving average."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cory.algorithm.losses import next_kl_coef
from cory.config import CORYConfig

KL_CONTROLLERS: dict[str, Callable[[float, float, int, CORYConfig], float]] = {
    "fixed": lambda kl_coef, kl_per_sequence, num_samples, args: kl_coef,
    "adaptive": lambda kl_coef, kl_per_sequence, num_samples, args: next_kl_coef(
        kl_coef, kl_per_sequence, args.kl_target, num_samples, args.kl_horizon
    ),
}
"""η of the next iteration from `(kl_coef, kl_per_sequence, num_samples, args)`."""


@dataclass
class RewardScaler:
    """Running mean and standard deviation of one agent's team rewards in one role.

    Batches are merged by the parallel variance formula (Chan et al. 1979), so the statistics equal
    those of all rewards so far.
    """

    count: float = 0.0
    mean: float = 0.0
    squared_deviations: float = 0.0

    @property
    def std(self) -> float:
        return (self.squared_deviations / self.count) ** 0.5 if self.count else 0.0

    def update(self, reward: Float[Tensor, " B"]) -> None:
        """Include a batch, but for NaN, which is no reward."""
        rewards = reward[~reward.isnan()].double()
        if not len(rewards):
            return
        count, mean = float(len(rewards)), float(rewards.mean())
        deviation, total = mean - self.mean, self.count + count
        self.squared_deviations += float((rewards - mean).square().sum())
        self.squared_deviations += deviation**2 * self.count * count / total
        self.mean += deviation * count / total
        self.count = total

    def scale(self, reward: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """(reward − mean) / standard deviation of all rewards so far; one of 0 divides by 1."""
        return (reward - self.mean) / (self.std or 1.0)


class ElasticReset:
    """Weights go back to their moving average, and the average to the initial weights.

    Noukhovitch et al., arXiv 2312.07551. The value head and the optimizer's moments stay.

    Args:
        weights: the language-model weights of one agent, as they are initially.
        decay: of the moving average, per optimizer step.
    """

    def __init__(self, weights: Sequence[nn.Parameter], decay: float) -> None:
        self.weights = list(weights)
        self.decay = decay
        self.initial = [weight.detach().clone() for weight in self.weights]
        self.average = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards the weights; once after each optimizer step."""
        for average, weight in zip(self.average, self.weights, strict=True):
            average.lerp_(weight, 1 - self.decay)

    @torch.no_grad()
    def reset(self) -> None:
        """The weights become their average, the average becomes the initial weights."""
        for weight, average, initial in zip(self.weights, self.average, self.initial, strict=True):
            weight.copy_(average)
            average.copy_(initial)
