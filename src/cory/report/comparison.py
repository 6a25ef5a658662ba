"""A comparison as a page: arms against each other, every agent alone, over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cory.io.files import path_inside
from cory.io.yaml import read_yaml
from cory.report.comparison_figures import (
    curves_figure,
    frontier_figure,
    frontier_over_coefficients,
    robustness_figures,
)
from cory.report.contents import Contents, Section
from cory.report.frontier import frontier_tables
from cory.report.results import Results, Setting, read_results
from cory.report.summary import summary_tables
from cory.report.tables import Column, Table, words
from cory.report.wording import duration, setting


def describe_comparison(directory: Path) -> Contents:
    """Everything that a comparison's page shows.

    Raises:
        ValueError: comparison.yaml or results.parquet is missing or cannot be read.
    """
    described = read_yaml(directory / "comparison.yaml") or {}
    results = read_results(directory / "results.parquet")
    baseline = described.get("baseline") or results.arms[0]
    sections = [
        Section(
            "summary",
            "Summary",
            "Every model alone on held-out queries at its last evaluation: mean over seeds ± half "
            "its 95% interval (Student's t). Differences are paired by seed. Click a heading to "
            "sort.",
            tables=summary_tables(results, baseline),
        ),
        Section(
            "curves",
            "Held-out curves",
            "Means over seeds with 95% bands. Arms that sample more per iteration are compared "
            "fairly over samples, tokens or seconds.",
            figures=[curves_figure(results)],
        ),
        Section(
            "frontier",
            "Reward and KL",
            "The two aims of training against each other; up and to the left is better.",
            figures=[frontier_figure(results), *frontier_over_coefficients(results)],
            tables=frontier_tables(directory / "frontier.csv", baseline),
        ),
        Section(
            "robustness",
            "Robustness",
            "Share of runs that did not collapse; a run counts as collapsed if one of its agents "
            "is.",
            figures=robustness_figures(results),
        ),
    ]
    return Contents(
        kind="comparison",
        title=described.get("title") or directory.resolve().name,
        facts=_facts(described, results),
        sections=[section for section in sections if not section.is_empty],
        runs=_run_directories(directory, results),
        appendix=[Section("arms", "Arms and settings", "", tables=_arm_tables(described))],
    )


def _facts(described: Mapping[str, Any], results: Results) -> dict[str, str]:
    seconds = results.total_seconds()
    return {
        "task": str(described.get("task") or "the user's own"),
        "arms": str(len(results.arms)),
        "seeds": ", ".join(map(str, results.seeds)),
        "KL coefficients η": ", ".join(map(setting, results.kl_coefs)),
        "learning rates": ", ".join(map(setting, results.learning_rates)),
        "runs": str(len(seconds)),
        "training time": duration(sum(seconds.values())),
    }


def _run_directories(directory: Path, results: Results) -> dict[str, Path]:
    return {
        f"{results.name(Setting.of(row))} · seed {row['seed']}": path_inside(
            directory, str(row["run"])
        )
        for row in results.rows
    }


def _arm_tables(described: Mapping[str, Any]) -> list[Table]:
    arms, base = described.get("arms") or {}, described.get("base") or {}
    tables = []
    if arms:
        rows = [
            [
                words(str(name)),
                words(", ".join(f"{k}: {setting(v)}" for k, v in (changes or {}).items()) or "–"),
            ]
            for name, changes in arms.items()
        ]
        columns = [Column("arm", True), Column("differs from the base in", True)]
        tables.append(Table("Arms", columns, rows))
    if base:
        rows = [[words(str(name)), words(setting(value))] for name, value in base.items()]
        columns = [Column("setting", True), Column("value", True)]
        tables.append(Table("Base settings of every arm", columns, rows))
    return tables
