"""What reward functions log beside their rewards: TRL's `log_metric` and `log_extra`."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cory.rewards.values import number_of, shown


class Log:
    """Numbers and columns that the functions log in one call for `num_rows` answers."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.metrics: dict[str, list[float]] = defaultdict(list)
        self.columns: dict[str, list[Any]] = {}

    def metric(self, name: str, value: float) -> None:
        """Log a number; those of the same name are averaged, None and nan left out.

        Raises:
            ValueError: it is no number, or the name no text.
        """
        _check_name(name, "log_metric")
        try:
            self.metrics[name].append(number_of(value))
        except ValueError as error:
            raise ValueError(
                f"log_metric({name!r}, …) takes a finite number, not {error}"
            ) from None

    def extra(self, column: str, values: Sequence[Any]) -> None:
        """Log a value for each answer, as a column of the sample log.

        Raises:
            ValueError: there are more or fewer than answers, or the name is no text.
        """
        _check_name(column, "log_extra")
        listed = list(values)
        if len(listed) != self.num_rows:
            raise ValueError(
                f"log_extra({column!r}, …) takes one value for each of the {self.num_rows} "
                f"completions, not {len(listed)}"
            )
        self.columns[column] = list(map(_plain, listed))


def _check_name(name: Any, function: str) -> None:
    if not isinstance(name, str):
        raise ValueError(f"{function} takes a name first, a str, not {shown(name)}")


def _plain(value: Any) -> Any:
    """A value as JSON holds it, or else its text."""
    try:
        if hasattr(value, "tolist"):  # numpy and torch
            value = value.tolist()
        value = json.loads(json.dumps(value))
    except Exception:  # noqa: BLE001  an object of the user's may raise anything
        value = shown(value, 10_000)
    if isinstance(value, int) and value.bit_length() > 63:
        return str(value)
    # A lone half of a pair of surrogates is no text for a file.
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def joined_means(parts: Sequence[dict[str, list[float]]]) -> dict[str, float]:
    """Means of the numbers that several processes logged, by name."""
    names = {name: None for part in parts for name in part}
    means: dict[str, float] = {}
    for name in names:
        known = [value for part in parts for value in part.get(name, []) if not math.isnan(value)]
        if known:
            means[name] = math.fsum(known) / len(known)
    return means
