"""A comparison directory as `cory compare` leaves it, gathered from runs that are there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml

from cory.team.metrics import read_metrics
from cory.training.records import load_config

TOTALS = ("total_samples", "total_tokens", "total_seconds")
COLLAPSED_BELOW = 0.05
"""Distinct-2 at which these tests call a policy collapsed."""


def run_directory(out: Path, arm: str, settings: Mapping[str, Any], seed: int) -> Path:
    """Where a run of a comparison is."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]
    sizes = f"kl{settings['kl_coef']}-lr{settings['learning_rate']}"
    return out / "runs" / arm / f"{sizes}-seed{seed}-{digest}"


def gather(out: Path, arms: Mapping[str, Mapping[str, Any]], runs: list[tuple[str, Path]]) -> None:
    """Write comparison.yaml and results.parquet for runs that are below `out`.

    Args:
        out: the comparison directory.
        arms: what each arm changes.
        runs: (arm, run directory).
    """
    rows = [row for arm, run in runs for row in result_rows(out, arm, run)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = pyarrow.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
    pyarrow.parquet.write_table(table, out / "results.parquet")
    args = load_config(runs[0][1])
    comparison = {
        "title": "Tiny arms",
        "task": args.task,
        "base": {"max_steps": args.max_steps, "batch_size": args.batch_size},
        "arms": {name: dict(changes) for name, changes in arms.items()},
        "seeds": sorted({row["seed"] for row in rows}),
        "kl_coefs": sorted({row["kl_coef"] for row in rows}),
        "learning_rates": sorted({row["learning_rate"] for row in rows}),
    }
    (out / "comparison.yaml").write_text(yaml.safe_dump(comparison, sort_keys=False))


def result_rows(out: Path, arm: str, run: Path) -> list[dict[str, Any]]:
    """A row per agent and evaluation."""
    args, records = load_config(run), read_metrics(run / "metrics.jsonl")
    totals: dict[int, dict[str, float]] = {0: dict.fromkeys(TOTALS, 0.0)}
    for record in records:
        if "total_samples" in record:
            totals[record["step"]] = {name: record[name] for name in TOTALS}
    return [
        {
            "arm": arm,
            "kl_coef": args.kl_coef,
            "learning_rate": args.learning_rate,
            "seed": args.seed,
            "agent": f"agent_{agent}",
            "step": record["step"],
            "run": str(run.relative_to(out)),
            **totals[record["step"]],
            "collapsed": record[f"eval/agent_{agent}/distinct_2"] < COLLAPSED_BELOW,
            **{
                key.removeprefix(f"eval/agent_{agent}/"): value
                for key, value in record.items()
                if key.startswith(f"eval/agent_{agent}/")
            },
        }
        for record in records
        if "eval/task_reward" in record
        for agent in range(args.num_agents)
    ]
