"""Comparison directories as `cory compare` leaves them, from runs or numbers that are there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cory.compare import results
from cory.compare.plan import PlannedRun
from cory.compare.summary import write_summary
from cory.config import CORYConfig
from cory.training.records import load_config


def run_directory(out: Path, arm: str, settings: Mapping[str, Any], seed: int) -> Path:
    """Where a run of a comparison is."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]
    sizes = f"kl{settings['kl_coef']}-lr{settings['learning_rate']}"
    return out / "runs" / arm / f"{sizes}-seed{seed}-{digest}"


def gather(
    out: Path, arms: Mapping[str, Mapping[str, Any]], runs: Sequence[tuple[str, Path]]
) -> None:
    """Sum up runs that are below `out`.

    Args:
        out: the comparison directory.
        arms: what each arm changes.
        runs: (arm, run directory).
    """
    planned = [_planned(arm, load_config(run).replace(output_dir=str(run))) for arm, run in runs]
    args = planned[0].args
    describe(
        out,
        title="Tiny arms",
        task=args.task,
        base={"max_steps": args.max_steps, "batch_size": args.batch_size},
        arms={name: dict(changes) for name, changes in arms.items()},
    )
    write_summary(results.gather(planned, out), planned, "ppo", out)


def made(out: Path, rows: Sequence[Mapping[str, Any]], **plan: Any) -> Path:
    """Sum up numbers that were made up; every run was to end at the table's last step."""
    described = describe(out, **plan)
    table = pd.DataFrame(rows)
    last = int(table["step"].max())
    table = pd.DataFrame({"max_steps": last, "paid_by": "reward"} | table.to_dict("series"))
    runs = [
        _planned(
            row["arm"],
            CORYConfig(
                kl_coef=row["kl_coef"],
                learning_rate=row["learning_rate"],
                seed=row["seed"],
                max_steps=last,
            ),
        )
        for row in table.drop_duplicates("run").to_dict("records")
    ]
    write_summary(table, runs, described["baseline"], out)
    return out


def describe(out: Path, **plan: Any) -> dict[str, Any]:
    """Write comparison.yaml, whose baseline is `ppo` unless another one is named."""
    described = {"task": "pocket-reviews", "baseline": "ppo", **plan}
    (out / "comparison.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    return described


def _planned(arm: str, args: CORYConfig) -> PlannedRun:
    assert isinstance(args.learning_rate, float)
    return PlannedRun(arm, args.kl_coef, args.learning_rate, args.seed, args)
