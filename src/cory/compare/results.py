"""All held-out evaluations of a comparison as one tidy table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cory.compare.collapse import CollapseRule
from cory.compare.plan import PlannedRun
from cory.team.metrics import read_metrics

RUN_KEYS = ["arm", "kl_coef", "learning_rate", "seed"]
TOTALS = ("total_samples", "total_tokens", "total_seconds")
COLUMNS = [*RUN_KEYS, "agent", "step", "run", *TOTALS, "collapsed"]
"""Columns that every table has, before one for each measure of an evaluation."""
_MEASURE = re.compile(r"eval/(agent_\d+|merged)/(.+)")


def load_results(output_dir: Path | str) -> pd.DataFrame:
    """The table of a comparison: a row per run, agent and held-out evaluation.

    Columns: `arm`, `kl_coef`, `learning_rate`, `seed`, `agent`, `step`, `run` (its directory),
    `total_samples`, `total_tokens`, `total_seconds`, `collapsed`, then every measure of an
    evaluation (`task_reward`, `kl` …; docs/reference/metrics.md).

    Raises:
        ValueError: there is no such table.
    """
    path = Path(output_dir) / "results.parquet"
    if not path.is_file():
        raise ValueError(
            f"{output_dir} has no results.parquet: `cory compare` writes it when its runs are done"
        )
    return pd.read_parquet(path)


def gather(runs: Iterable[PlannedRun], output_dir: Path, collapse: CollapseRule) -> pd.DataFrame:
    """Read the evaluations of all runs, also of those that did not come to their end."""
    rows = [row for run in runs for row in _rows(run, output_dir, collapse)]
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.DataFrame(rows)
    measures = [name for name in table.columns if name not in COLUMNS]
    return table[[*COLUMNS, *measures]]


def write_results(table: pd.DataFrame, output_dir: Path) -> None:
    """Write results.csv and results.parquet."""
    table.to_csv(output_dir / "results.csv", index=False)
    table.to_parquet(output_dir / "results.parquet", index=False)


def _rows(run: PlannedRun, output_dir: Path, collapse: CollapseRule) -> list[dict[str, Any]]:
    records = read_metrics(run.directory / "metrics.jsonl")
    totals = {
        record["step"]: {name: record[name] for name in TOTALS}
        for record in records
        if TOTALS[0] in record
    }
    totals[0] = dict.fromkeys(TOTALS, 0.0)
    rows: list[dict[str, Any]] = []
    initial: dict[str, dict[str, float]] = {}
    for record in records:
        step = record["step"]
        for agent, measures in _by_agent(record).items():
            initial.setdefault(agent, measures)
            rows.append(
                {
                    **{name: getattr(run, name) for name in RUN_KEYS},
                    "agent": agent,
                    "step": step,
                    "run": str(run.directory.relative_to(output_dir)),
                    **totals[step],
                    "collapsed": collapse.holds(measures, initial[agent]),
                    **measures,
                }
            )
    return rows


def _by_agent(record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The measures of an evaluation, by who was evaluated; what is null was not a number."""
    found: dict[str, dict[str, float]] = {}
    for key, value in record.items():
        if match := _MEASURE.fullmatch(key):
            measures = found.setdefault(match[1], {})
            measures[match[2]] = np.nan if value is None else value
    return found


def agent_names(table: pd.DataFrame) -> Sequence[str]:
    """Who was evaluated, in order."""
    return sorted(table["agent"].unique(), key=lambda name: (not name.startswith("agent"), name))
