"""All held-out evaluations of a comparison as one tidy table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cory.compare.plan import PlannedRun
from cory.team.metrics import read_metrics
from cory.training.records import MAX_KL_PER_TOKEN

CELL = ["arm", "kl_coef", "learning_rate"]
"""What the runs of one place in the matrix have in common."""
RUN_KEYS = [*CELL, "seed"]
TOTALS = ["total_samples", "total_tokens", "total_seconds"]
COLUMNS = [*RUN_KEYS, "agent", "step", "run", *TOTALS, "collapsed"]
"""Columns that every table has, before one for each measure of an evaluation."""
MIN_DISTINCT_2_SHARE = 0.25
"""Below this share of the initial model's distinct-2, answers repeat each other. A task sets the
level: on a vocabulary of 16 tokens, few token pairs are distinct even in healthy answers."""
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


def gather(runs: Iterable[PlannedRun], output_dir: Path) -> pd.DataFrame:
    """Read the evaluations of all runs, also of those that did not come to their end."""
    rows = [row for run in runs for row in _rows(run, output_dir)]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=COLUMNS)


def _rows(run: PlannedRun, output_dir: Path) -> list[dict[str, Any]]:
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
                    "collapsed": has_collapsed(measures, initial[agent]),
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


def has_collapsed(measures: Mapping[str, float], initial: Mapping[str, float]) -> bool:
    """Whether an agent's answers repeat, left the initial model's language, or earn less than it.

    It earns less if its reward is lower by more than its own 95% half-width. The ceiling of the KL
    is that of the alarms in training.

    Args:
        measures: `task_reward`, `task_reward_ci95`, `kl_per_token` and `distinct_2` on held-out
            queries. A value that is nan counts as collapse.
        initial: the same of the initial model.

    >>> start = dict(task_reward=0.3, task_reward_ci95=0.1, kl_per_token=0.0, distinct_2=0.4)
    >>> has_collapsed(start, start), has_collapsed({**start, "distinct_2": 0.09}, start)
    (False, True)
    """
    is_healthy = (
        measures["distinct_2"] >= MIN_DISTINCT_2_SHARE * initial["distinct_2"]
        and measures["kl_per_token"] <= MAX_KL_PER_TOKEN
        and measures["task_reward"] + measures["task_reward_ci95"] >= initial["task_reward"]
    )
    # A comparison with nan is False.
    return not is_healthy
