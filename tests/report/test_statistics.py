"""Intervals over few seeds."""

from __future__ import annotations

import pytest

from cory.report.statistics import mean_interval, student_quantile


@pytest.mark.parametrize(
    ("degrees", "tabled"),
    [(1, 12.706), (2, 4.303), (9, 2.262), (10, 2.228), (11, 2.201), (20, 2.086), (120, 1.980)],
)
def test_quantiles_are_those_of_printed_tables(degrees: int, tabled: float) -> None:
    """Prevents intervals of the normal distribution, which are far too narrow for three seeds."""
    assert student_quantile(degrees) == pytest.approx(tabled, abs=0.001)


def test_an_interval_worked_out_by_hand() -> None:
    """Prevents the standard deviation of n, and a missing √n."""
    # s² = ((-1)² + 0 + 1²) / 2 = 1, so the half width is 4.3027 / √3.
    assert mean_interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(4.3027 / 3**0.5))
    assert mean_interval([0.5, 0.5]) == (0.5, 0.0)
    assert mean_interval([7.0]) == (7.0, None)
