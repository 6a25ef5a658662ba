"""Means over few seeds, with intervals that know they are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

NORMAL_QUANTILE = 1.959964
QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
"""97.5% quantiles of Student's t distribution with 1, 2, … 10 degrees of freedom."""


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half the width of its 95% interval: t · s / √n, with Student's t for n − 1.

    A single value has no interval.

    >>> mean_interval([4.0, 4.0, 4.0]), mean_interval([4.0])
    ((4.0, 0.0), (4.0, None))
    """
    if len(values) < 2:
        return fmean(values), None
    return fmean(values), student_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def student_quantile(degrees: int) -> float:
    """97.5% quantile of Student's t; above 10 degrees of freedom to 3 decimals.

    There by its expansion around the normal quantile z (Abramowitz and Stegun, 26.7.5):
    z + (z³ + z) / 4ν + (5z⁵ + 16z³ + 3z) / 96ν² + (3z⁷ + 19z⁵ + 17z³ − 15z) / 384ν³.
    """
    if degrees <= len(QUANTILES):
        return QUANTILES[degrees - 1]
    z = NORMAL_QUANTILE
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3
