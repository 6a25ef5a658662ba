"""The tidy table of a comparison: read, checked, and looked up by setting, agent, step and seed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow
import pyarrow.parquet

from cory.report.measures import KL, REWARD

MEAN_AGENT = "agents' mean"
"""Stands as agent in rows that average the agents of one run; models merged from them stay out."""
AGENT = "agent_"
"""How the names of agents begin; other names are of models made from them."""
NAMES = ("arm", "kl_coef", "learning_rate", "seed", "agent", "step", "run", "collapsed")
TOTALS = ("total_samples", "total_tokens", "total_seconds")


@dataclass(frozen=True)
class Setting:
    """What the seeds of one curve have in common."""

    arm: str
    kl_coef: Any
    learning_rate: Any

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Setting:
        return cls(row["arm"], row["kl_coef"], row["learning_rate"])


Row = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """Evaluations: a row per arm, KL coefficient, learning rate, seed, agent and step."""

    rows: Sequence[Row]

    @cached_property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(row["arm"] for row in self.rows))

    @cached_property
    def seeds(self) -> list[Any]:
        return sorted({row["seed"] for row in self.rows})

    @cached_property
    def kl_coefs(self) -> list[Any]:
        return _in_order({row["kl_coef"] for row in self.rows})

    @cached_property
    def learning_rates(self) -> list[Any]:
        return _in_order({row["learning_rate"] for row in self.rows})

    @cached_property
    def settings(self) -> list[Setting]:
        return list(dict.fromkeys(Setting.of(row) for row in self.rows))

    @cached_property
    def agents(self) -> list[str]:
        """The mean first, then each, then what was merged from them."""
        return [MEAN_AGENT, *sorted({row["agent"] for row in self.rows})]

    def name(self, which: Setting) -> str:
        """The arm, and what else tells settings apart."""
        parts = [which.arm]
        if len(self.kl_coefs) > 1:
            parts.append(f"η {which.kl_coef}")
        if len(self.learning_rates) > 1:
            parts.append(f"lr {which.learning_rate}")
        return " · ".join(parts)

    @cached_property
    def _rows_of(self) -> dict[Setting, list[Row]]:
        rows: dict[Setting, list[Row]] = defaultdict(list)
        for row in self.rows:
            rows[Setting.of(row)].append(row)
        return rows

    @cached_property
    def _found(self) -> dict[tuple[Setting, str], dict[int, dict[Any, Row]]]:
        """Rows by setting and agent, then step, then seed; the mean agent among them."""
        teams: dict[tuple[Setting, int, Any], list[Row]] = defaultdict(list)
        found: dict[tuple[Setting, str], dict[int, dict[Any, Row]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for row in sorted(self.rows, key=lambda row: row["step"]):
            which = Setting.of(row)
            found[which, row["agent"]][row["step"]][row["seed"]] = row
            if row["agent"].startswith(AGENT):
                teams[which, row["step"], row["seed"]].append(row)
        for (which, step, seed), members in teams.items():
            found[which, MEAN_AGENT][step][seed] = _mean_row(members)
        return found

    def team_size(self, which: Setting) -> int:
        """Agents of a setting, those merged from others left out."""
        names = {row["agent"] for row in self._rows_of[which]}
        return sum(name.startswith(AGENT) for name in names)

    def over_steps(self, which: Setting, agent: str, key: str) -> dict[int, dict[Any, float]]:
        """Values by step and seed; steps that nobody was measured at are left out."""
        values = {
            step: {s: row[key] for s, row in seeds.items() if row.get(key) is not None}
            for step, seeds in self._found.get((which, agent), {}).items()
        }
        return {step: seeds for step, seeds in values.items() if seeds}

    def places(self, which: Setting, steps: Sequence[int], key: str) -> list[float]:
        """Where steps stand on an axis, averaged over seeds; nothing was used before the first."""
        if key == "step":
            return [float(step) for step in steps]
        used: dict[int, list[float]] = defaultdict(list)
        for row in self._rows_of[which]:
            used[row["step"]].append(row[key] or 0.0)
        return [fmean(used[step]) for step in steps]

    def last(self, which: Setting, agent: str) -> dict[Any, Row]:
        """The last row of each seed."""
        rows: dict[Any, Row] = {}
        for seeds in self._found.get((which, agent), {}).values():
            rows |= seeds
        return rows

    def end(self, which: Setting, agent: str) -> dict[str, float] | None:
        """Reward and KL at the end, averaged over seeds; None if nothing was measured."""
        rows = list(self.last(which, agent).values())
        values = {
            key: [row[key] for row in rows if row.get(key) is not None]
            for key in (REWARD.key, KL.key)
        }
        if not all(values.values()):
            return None
        return {key: fmean(found) for key, found in values.items()}

    def end_over_coefficients(self, arm: str, learning_rate: Any, key: str) -> list[float]:
        """The mean agent's last values over seeds and KL coefficients."""
        return [
            row[key]
            for coefficient in self.kl_coefs
            for row in self.last(Setting(arm, coefficient, learning_rate), MEAN_AGENT).values()
            if row.get(key) is not None
        ]

    def alive(self, which: Setting) -> list[bool]:
        """For each seed, whether no agent has collapsed at the end."""
        return [not row["collapsed"] for row in self.last(which, MEAN_AGENT).values()]

    def share_alive(self, arm: str, learning_rate: Any) -> float | None:
        """Share of an arm's runs at a learning rate that did not collapse; None: no runs."""
        alive = [
            is_alive
            for coefficient in self.kl_coefs
            for is_alive in self.alive(Setting(arm, coefficient, learning_rate))
        ]
        return sum(alive) / len(alive) if alive else None

    def total_seconds(self) -> dict[str, float]:
        """Training time of each run."""
        seconds: dict[str, float] = defaultdict(float)
        for row in self.rows:
            seconds[row["run"]] = max(seconds[row["run"]], row["total_seconds"] or 0.0)
        return seconds


def _mean_row(members: Sequence[Row]) -> Row:
    """Numbers averaged; collapsed if one is."""
    mean = {name: members[0][name] for name in NAMES}
    for key in members[0].keys() - set(NAMES):
        values = [row[key] for row in members if isinstance(row[key], (int, float))]
        mean[key] = fmean(values) if values else None
    return mean | {"agent": MEAN_AGENT, "collapsed": any(row["collapsed"] for row in members)}


def read_results(path: Path) -> Results:
    """The table that `cory compare` leaves.

    Raises:
        ValueError: it is missing, cannot be read, has no rows, or lacks a column.
    """
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: the comparison is not finished. Run its `cory compare` again; "
            "runs that are done are not repeated"
        )
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} cannot be read as parquet: {error}") from error
    if not rows:
        raise ValueError(f"{path} has no rows: no run of the comparison was evaluated")
    missing = [name for name in (*NAMES, *TOTALS, REWARD.key, KL.key) if name not in rows[0]]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}: write it with `cory compare`, or give it all of "
            f"{', '.join((*NAMES, *TOTALS, REWARD.key, KL.key))}"
        )
    return Results([{key: _plain(value) for key, value in row.items()} for row in rows])


def _plain(value: Any) -> Any:
    """NaN as None, since nothing was measured; a list, such as a rate per agent, as text."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return None if isinstance(value, float) and math.isnan(value) else value


def _in_order(values: set[Any]) -> list[Any]:
    """Numbers by size, then texts."""
    return sorted(values, key=lambda value: (isinstance(value, str), value))
