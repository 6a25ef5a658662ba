"""What reward functions return, made into numbers; nothing that an object does can break it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np

from cory.io.signals import Stopped

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
        count = len(listed) if len(listed) < num_rows else len(values)
        raise RewardError(
            f"Reward function {name!r} returned {count} values for {num_rows} completions; "
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


NO_LISTS = (str, bytes, bytearray, memoryview, Mapping, Set)
"""What Python can count and walk through, but nobody means as a list of numbers."""


def _listed(values: Any, name: str, num_rows: int) -> list[Any]:
    problem = ""
    try:
        # To Python a table is the list of its columns' names.
        is_flat = len(getattr(values, "shape", "1")) == 1
        if is_flat and hasattr(values, "__len__") and not isinstance(values, NO_LISTS):
            return list(islice(values, num_rows + 1))  # it may be endless
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
    return _text(repr, value, f"an object of type {type(value).__name__}")[:length]


def described(error: BaseException, length: int = 1000) -> str:
    """Type and message of an exception, on the way to the user."""
    text = _text(str, error, "")[:length]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(write: Callable[[Any], str], value: Any, default: str) -> str:
    try:
        return write(value)
    except (KeyboardInterrupt, Stopped):
        raise
    except BaseException:  # noqa: BLE001  an object of the user's may raise anything, SystemExit too
        return default
