"""Statistics against printed tables, hand-worked numbers and brute force."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cory.algorithm.intervals import (
    estimate,
    hypervolume,
    paired_difference,
    pareto_front,
    value_at,
)

PRINTED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 29: 2.045, 2000: 1.961}
"""t_{0.975} by degrees of freedom, as in any table of Student's distribution."""
UNIT = st.floats(0, 1, allow_subnormal=False)
POINTS = st.lists(st.tuples(UNIT, UNIT), max_size=8)


@pytest.mark.parametrize(("degrees", "printed"), PRINTED.items())
def test_intervals_have_the_quantiles_of_the_tables(degrees: int, printed: float) -> None:
    """Prevents intervals from the normal distribution, six times too narrow for two seeds."""
    values = list(range(degrees + 1))
    std = math.sqrt(sum((value - degrees / 2) ** 2 for value in values) / degrees)
    quantile = estimate(values).half_width / std * math.sqrt(len(values))
    assert quantile == pytest.approx(printed, abs=6e-4)


def test_an_interval_worked_by_hand() -> None:
    """Prevents a standard deviation with N, or an interval for the spread instead of the mean."""
    result = estimate([0.8, 0.9, 0.85])
    # std with N − 1 is .05, so the half-width is 4.303 · .05 / √3.
    assert result.mean == pytest.approx(0.85)
    assert result.half_width == pytest.approx(0.12421, abs=1e-5)
    assert result.count == 3


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Prevents 95% intervals that are not."""
    rng = np.random.default_rng(0)
    results = [estimate(rng.normal(3.0, 2.0, size=3)) for _ in range(2000)]
    covered = sum(abs(result.mean - 3.0) <= result.half_width for result in results)
    assert 0.94 < covered / 2000 < 0.96


def test_one_seed_has_no_interval() -> None:
    """Prevents an interval of width 0, which would make any difference look certain."""
    assert math.isnan(estimate([0.5]).half_width)
    assert math.isnan(estimate([]).mean)


def test_a_value_that_is_not_a_number_is_not_left_out() -> None:
    """Prevents the mean of the seeds that came through from standing for all of them."""
    assert math.isnan(estimate([0.5, math.nan, 0.7]).mean)
    assert math.isnan(paired_difference({0: 0.5, 1: math.nan}, {0: 0.1, 1: 0.1}).mean)


def test_differences_are_paired_by_seed() -> None:
    """Prevents the spread between seeds from hiding a difference that every seed shows."""
    arm, baseline = {0: 0.51, 1: 0.92, 7: 9.9}, {1: 0.90, 0: 0.50, 5: 0.1}
    difference = paired_difference(arm, baseline)
    # .01 and .02: seeds 5 and 7 have no partner; t is 12.706, std .00707.
    assert difference.mean == pytest.approx(0.015)
    assert difference.half_width == pytest.approx(12.706 * 0.00707107 / math.sqrt(2), abs=1e-4)
    assert difference.count == 2


def test_a_curve_is_not_extended() -> None:
    """Prevents a budget that nobody has spent from getting a value."""
    assert value_at([0, 4], [1.0, 3.0], 1) == 1.5
    assert value_at([0, 4], [1.0, 3.0], 4) == 3.0
    assert math.isnan(value_at([0, 4], [1.0, 3.0], 4.1))
    assert math.isnan(value_at([], [], 0))


@given(POINTS)
def test_the_front_is_what_nobody_dominates(points: list[tuple[float, float]]) -> None:
    """Prevents a front that keeps beaten points, or loses one, against the double loop."""

    def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] >= other[0] and one[1] <= other[1]

    best = {point for point in points if not any(dominates(other, point) for other in points)}
    assert set(pareto_front(points)) == best


@given(POINTS, UNIT, UNIT)
def test_hypervolume_is_the_sum_of_thin_slices(
    points: list[tuple[float, float]], reward: float, largest: float
) -> None:
    """Prevents an area that misses a piece, or counts a beaten point: slices are added instead."""
    size = 4000
    known = [point for point in points if point[0] > reward]
    best = [p for p in known if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in known)]
    best = [(0.0, reward), *sorted({(kl, value) for value, kl in best if kl < largest})]
    total = 0.0
    for place in (np.arange(size) + 0.5) / size * largest:
        below = [point for point in best if point[0] <= place]
        above = [point for point in best if point[0] > place]
        (kl, value) = below[-1]
        if above:
            value += (above[0][1] - value) * (place - kl) / (above[0][0] - kl)
        total += (value - reward) * largest / size
    assert hypervolume(points, (reward, largest)) == pytest.approx(total, abs=2e-3)


def test_hypervolume_worked_by_hand() -> None:
    """Prevents points beyond the reference from counting, above or below."""
    points = [(1.0, 1.0), (2.0, 3.0), (0.5, 2.0), (-1.0, 0.0), (9.0, 4.0)]
    random.Random(0).shuffle(points)
    # 1 · 1 / 2 + (1 + 2) / 2 · (3 − 1) + 2 · (4 − 3)
    assert hypervolume(points, (0.0, 4.0)) == 5.5
    assert hypervolume(points, (2.0, 4.0)) == 0.0
    assert hypervolume([], (0.0, 1.0)) == 0.0


def test_an_evaluation_in_between_changes_no_hypervolume() -> None:
    """Prevents an arm from winning by being evaluated more often, or earlier."""
    seldom = hypervolume([(2.0, 2.0)], (0.0, 3.0))
    assert hypervolume([(1.0, 1.0), (2.0, 2.0)], (0.0, 3.0)) == seldom == 4.0
