"""Statistics of a comparison: means over seeds with 95% intervals, and the reward–KL frontier."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

Point = tuple[float, float]
"""Reward, of which more is better, and KL, of which less is better."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, half the width of its 95% interval, and the number of seeds."""

    mean: float
    half_width: float
    count: int


def estimate(values: Iterable[float]) -> Estimate:
    """Mean and Student's 95% interval.

        mean ± t_{0.975, N − 1} · std / √N        std with N − 1

    The half-width of one value is nan, since it says nothing about the spread. Without any value,
    the mean is nan as well. A value that is nan makes both nan.

    >>> estimate([1.0])
    Estimate(mean=1.0, half_width=nan, count=1)
    """
    numbers = np.array(list(values), dtype=float)
    count = len(numbers)
    if count < 2:
        return Estimate(float(numbers[0]) if count else math.nan, math.nan, count)
    error = float(numbers.std(ddof=1)) / math.sqrt(count)
    # The smallest t with P(T ≤ t) = 0.975, as 2.5% are left out at either end.
    quantile = float(stdtrit(count - 1, 0.975))
    return Estimate(float(numbers.mean()), quantile * error, count)


def paired_difference(
    arm: Mapping[Hashable, float], baseline: Mapping[Hashable, float]
) -> Estimate:
    """Mean of `arm − baseline` over the seeds that both have, with Student's 95% interval.

    The runs of a seed share initial values, queries and their order, so what a seed does to both
    cancels in the difference.
    """
    return estimate(arm[seed] - baseline[seed] for seed in arm if seed in baseline)


def value_at(costs: Sequence[float], values: Sequence[float], cost: float) -> float:
    """Value of a curve at a cost, linear between its points; nan outside of them.

    >>> value_at([0, 10, 30], [0.2, 0.6, 0.8], 20), value_at([0, 10], [0.2, 0.6], 11)
    (0.7, nan)
    """
    if not len(costs) or not costs[0] <= cost <= costs[-1]:
        return math.nan
    return float(np.interp(cost, costs, values))


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in one aim without losing in the other, by rising KL.

    >>> pareto_front([(1.0, 2.0), (0.5, 1.0), (0.4, 1.5), (1.0, 3.0)])
    [(0.5, 1.0), (1.0, 2.0)]
    """
    front: list[Point] = []
    for reward, kl in sorted(points, key=lambda point: (point[1], -point[0])):
        if not front or reward > front[-1][0]:
            front.append((reward, kl))
    return front


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """Area between a reference reward and the frontier of a training run, up to a reference KL.

        ∫ from 0 to KL_ref of (f(KL) − reward_ref) d KL

    f joins the frontier's points above the reference reward by straight lines, from the initial
    model at (KL 0, reward_ref) on, and stays at its last value behind them. A run passes through
    what lies between two evaluations; the steps of the usual definition (Zitzler and Thiele 1998)
    would favour the run that happens to be evaluated at smaller KLs.

    More is better. Points beyond the reference in either aim add nothing.

    Args:
        points: reward and KL.
        reference: reward of the initial model and the largest KL that counts.

    >>> hypervolume([(1.0, 1.0), (2.0, 3.0)], reference=(0.0, 4.0))
    5.5
    """
    least_reward, largest_kl = reference
    inside = [(least_reward, 0.0)]
    inside += [
        (reward, max(kl, 0.0))
        for reward, kl in pareto_front(points)
        if reward > least_reward and kl < largest_kl
    ]
    rewards, kls = zip(*inside, (inside[-1][0], largest_kl), strict=True)
    return float(np.trapezoid(np.array(rewards) - least_reward, kls))
