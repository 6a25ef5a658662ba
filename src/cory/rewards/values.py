"""What reward functions return, made into numbers; nothing that an object does can break it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from numbers import Real
from typing import Any

import numpy as np

LARGEST_REWARD = 1e15
"""Larger ones are refused: their squares, which the losses hold, would not fit into float32."""


class RewardError(ValueError):
    """A reward function failed or returned something that is not a reward.

    Args:
        message: what is wrong, and the rule.
        rows: of the call that are at fault; None: not known, so all.
        rewards: what the rows of the call were paid, NaN where that is not known; None: nothing is.
    """

    def __init__(
        self,
        message: str,
        rows: Sequence[int] | None = None,
        rewards: Sequence[float] | None = None,
    ) -> None:
        super().__init__(message)
        self.rows = rows
        self.rewards = rewards


def checked(values: Any, name: str, num_rows: int) -> list[float]:
    """The values that a reward function returned as floats, NaN for None.

    Raises:
        RewardError: they are not one number or None for each row.
    """
    listed = _listed(values, name, num_rows)
    if len(listed) != num_rows:
        raise RewardError(
            f"Reward function {name!r} returned {len(listed)} values for {num_rows} completions; "
            "it must return one for each (None where it does not apply)."
        )
    rewards = [math.nan] * num_rows
    refusals: dict[int, str] = {}
    for row, value in enumerate(listed):
        try:
            rewards[row] = number_of(value)
        except ValueError as error:
            refusals[row] = f"Reward function {name!r} returned {error} for row {row}; {_RULE}"
    if refusals:
        raise RewardError(next(iter(refusals.values())), list(refusals), rewards)
    return rewards


_RULE = (
    f"it must return a finite number of at most {LARGEST_REWARD:.0e} in size, or None where it "
    "does not apply."
)


def number_of(value: Any) -> float:
    """A reward as a float; NaN for None and nan, which mean that there is none.

    Raises:
        ValueError: it is no number, or too large; the message shows it.
    """
    if value is None or value is np.ma.masked:
        return math.nan
    try:
        number = value.item() if is_scalar(value) else value
        reward = float(number) if isinstance(number, Real) else None
    except Exception as error:
        raise ValueError(f"{shown(value)} ({described(error)})") from error
    if reward is None:
        raise ValueError(f"{shown(value)} ({type(value).__name__})")
    if abs(reward) > LARGEST_REWARD:
        raise ValueError(f"{reward}")
    return reward


def _listed(values: Any, name: str, num_rows: int) -> list[Any]:
    problem = ""
    try:
        if hasattr(values, "__len__") and not (
            isinstance(values, str | bytes | Mapping | Set) or is_scalar(values)
        ):
            return list(values)
    except Exception as error:  # noqa: BLE001  an object of the user's may raise anything
        problem = f", which cannot be read ({described(error)})"
    raise RewardError(
        f"Reward function {name!r} returned {shown(values)}{problem}; it must return a list with "
        f"one number or None for each of the {num_rows} completions."
    )


def is_scalar(value: Any) -> bool:
    """Whether `value` is a numpy or torch scalar, or an array without dimensions."""
    return getattr(value, "shape", None) == () and hasattr(value, "item")


def shown(value: Any, length: int = 200) -> str:
    """The first characters of a value's `repr`, or its type where that raises."""
    try:
        return repr(value)[:length]
    except Exception:  # noqa: BLE001  an object of the user's may raise anything
        return f"an object of type {type(value).__name__}"


def described(error: BaseException, length: int = 1000) -> str:
    """Type and message of an exception, on the way to the user."""
    try:
        text = str(error)[:length]
    except Exception:  # noqa: BLE001  an object of the user's may raise anything
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
