"""What `cory compare` has summed up, read from its CSV files and looked up by setting and agent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pandas.api.types import is_numeric_dtype

from cory.io.objects import LARGEST
from cory.io.yaml import read_yaml
from cory.report.measures import HYPERVOLUME, TABLE

MEAN, WORST = "mean", "worst"
"""Stand as agent in rows that are the mean over a team's agents, and its agent of least reward."""
AGENT = "agent_"
"""How the names of agents begin. `merged` is a model that was made from them."""
_CELL = "arm kl_coef learning_rate"
_AVERAGED = f"{_CELL} agent step seeds total_samples total_tokens total_seconds task_reward kl"
_VOLUME = "hypervolume reference_reward reference_kl final_reward"
FILES = {
    "results": f"{_CELL} seed run step total_seconds",
    "curves": _AVERAGED,
    "summary": _AVERAGED,
    "frontier": f"reward arm learning_rate agent seeds {_VOLUME}",
    "robustness": f"{_CELL} runs failed collapsed",
}
"""CSV files that are read, and the columns that each must have."""
AGAIN = (
    "Either the comparison is not finished, or another version of cory wrote it: run its "
    "`cory compare` again"
)
TYPES = {
    **dict.fromkeys(("reward", "arm", "agent", "run"), str),
    **dict.fromkeys(("kl_coef", "learning_rate"), float),
}
NAMING = frozenset(f"{_CELL} reward agent run seed seeds step runs failed collapsed".split())
"""Columns that have a value in every row."""
MEASURED = tuple(measure.key for measure in (*TABLE, HYPERVOLUME))
"""How the names of further columns begin that are read as numbers."""
MAX_BYTES = 100_000_000
Row = Mapping[str, Any]


class Setting(NamedTuple):
    """What the seeds of one curve have in common."""

    arm: str
    kl_coef: float
    learning_rate: float

    @classmethod
    def of(cls, row: Row) -> Setting:
        return cls(row["arm"], row["kl_coef"], row["learning_rate"])


@dataclass(frozen=True)
class Results:
    """A comparison: its plan, and the rows of its CSV files; None where nothing was measured."""

    plan: Mapping[str, Any]
    results: Sequence[Row]
    curves: Sequence[Row]
    summary: Sequence[Row]
    frontier: Sequence[Row]
    robustness: Sequence[Row]

    @property
    def baseline(self) -> str:
        """The arm that differences are taken to."""
        return str(self.plan["baseline"])

    @cached_property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(row["arm"] for row in self.curves))

    @cached_property
    def rewards(self) -> list[str]:
        """What arms are compared by: `task_reward`, or every `reward/NAME` if paid differently."""
        return list(dict.fromkeys(row["reward"] for row in self.frontier))

    @cached_property
    def kl_coefs(self) -> list[float]:
        return sorted({row["kl_coef"] for row in self.curves})

    @cached_property
    def learning_rates(self) -> list[float]:
        return sorted({row["learning_rate"] for row in self.curves})

    @cached_property
    def settings(self) -> list[Setting]:
        return list(dict.fromkeys(Setting.of(row) for row in self.curves))

    @cached_property
    def agents(self) -> list[str]:
        """The mean first, then each, then what was merged from them; `worst` is left out."""
        return [MEAN, *sorted({row["agent"] for row in self.curves} - {MEAN, WORST})]

    @cached_property
    def runs(self) -> dict[str, Row]:
        """The last evaluation of each run, by the run's directory."""
        return {row["run"]: row for row in sorted(self.results, key=lambda row: row["step"])}

    @cached_property
    def axes(self) -> dict[str, str]:
        """Labels of `kl_coef` and `learning_rate`, if several values of it were run."""
        several = {"kl_coef": ("η", self.kl_coefs), "learning_rate": ("lr", self.learning_rates)}
        return {key: label for key, (label, values) in several.items() if len(values) > 1}

    def name(self, which: Setting) -> str:
        """The arm, and what else tells settings apart."""
        places = (f"{label} {getattr(which, key)}" for key, label in self.axes.items())
        return " · ".join([which.arm, *places])

    def curve(self, which: Setting, agent: str, *keys: str) -> list[Row]:
        """Averages over seeds in the order of steps, where all of the keys are known."""
        return [
            row for row in self._curves.get((which, agent), ()) if None not in map(row.get, keys)
        ]

    @cached_property
    def ends(self) -> dict[tuple[Setting, str], Row]:
        """Averages over seeds after the last iteration; without those of which no run came so far.

        By setting and agent.
        """
        return {(Setting.of(row), row["agent"]): row for row in self.summary}

    def team_size(self, which: Setting) -> int:
        """Agents of a setting, those merged from others left out."""
        return sum(agent.startswith(AGENT) for setting, agent in self._curves if setting == which)

    def alive(self, arm: str, learning_rate: float, *kl_coefs: float) -> tuple[int, int]:
        """How many runs did not collapse, and how many came to their end."""
        rows = [
            row
            for row in self.robustness
            if (row["arm"], row["learning_rate"]) == (arm, learning_rate)
            and row["kl_coef"] in kl_coefs
        ]
        ended = sum(row["runs"] - row["failed"] for row in rows)
        return ended - sum(row["collapsed"] for row in rows), ended

    @cached_property
    def _curves(self) -> Mapping[tuple[Setting, str], list[Row]]:
        found: dict[tuple[Setting, str], list[Row]] = defaultdict(list)
        for row in sorted(self.curves, key=lambda row: row["step"]):
            found[Setting.of(row), row["agent"]].append(row)
        return found


def in_common(rows: Iterable[Row], key: str) -> Any:
    """The value of all rows that have one, None where they differ.

    >>> in_common([{"seeds": 3}, {"seeds": None}], "seeds"), in_common([{"n": 3}, {"n": 2}], "n")
    (3, None)
    """
    values = {row[key] for row in rows if row.get(key) is not None}
    return values.pop() if len(values) == 1 else None


def read_results(directory: Path) -> Results:
    """Read what `cory compare` left in its directory.

    Raises:
        ValueError: a file is missing, cannot be read, has no rows, or does not hold what it should.
    """
    plan = _plan(directory / "comparison.yaml")
    tables = {name: _read(directory / f"{name}.csv", of.split()) for name, of in FILES.items()}
    return Results(plan, **tables)


def _plan(path: Path) -> Mapping[str, Any]:
    plan = read_yaml(path)
    if not isinstance(plan, dict) or "baseline" not in plan:
        raise ValueError(f"{path} names no baseline. {AGAIN}")
    arms = plan.get("arms")
    groups = [plan.get("base"), arms, *(arms.values() if isinstance(arms, dict) else ())]
    if wrong := [group for group in groups if not isinstance(group, dict | None)]:
        raise ValueError(f"{path}: {wrong[0]!r:.100} must hold `name: value` lines. {AGAIN}")
    if not isinstance(plan.get("title"), str | None):
        raise ValueError(f"{path}: title={plan['title']!r:.100} must be a text. {AGAIN}")
    return plan


def _read(path: Path, columns: Sequence[str]) -> list[Row]:
    if not path.is_file():
        raise ValueError(f"{path} is missing. {AGAIN}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES:,} bytes. {AGAIN}")
    try:
        # An arm may be called `null`.
        table = pd.read_csv(path, dtype=TYPES, keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"{path} has no column {missing[0]!r}. {AGAIN}")
    if table.empty:
        raise ValueError(f"{path} has no rows: no run of the comparison was evaluated")
    numbers = table.select_dtypes("number")
    table[numbers.columns] = numbers.where(numbers.abs() <= LARGEST)
    _check_values(path, table, columns)
    known: Any = table.astype(object).where(table.notna(), None)
    return known.to_dict("records")


def _check_values(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse words where numbers are read, and rows that do not say what they are about."""
    for name in table:
        is_read = name in columns or str(name).startswith(MEASURED)
        if is_read and name not in TYPES and not is_numeric_dtype(table[name]):
            raise ValueError(f"{path}: the column {name!r} must hold numbers only. {AGAIN}")
    for name in set(columns) & NAMING:
        unknown = table[name].isna()
        if unknown.any():
            row = int(unknown.to_numpy().argmax()) + 2
            raise ValueError(f"{path}, line {row} has no {name!r}. {AGAIN}")
