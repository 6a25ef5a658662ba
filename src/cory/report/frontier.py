"""The hypervolume of each arm's reward–KL frontier, as `cory compare` has measured it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from cory.report.tables import Cell, Column, Table, words


def frontier_tables(path: Path, baseline: str) -> list[Table]:
    """The rows of frontier.csv; no table where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    has_rates = len({row["learning_rate"] for row in rows}) > 1
    columns = [Column("arm", True), *([Column("lr", True)] if has_rates else []), Column("seeds")]
    columns += [Column("hypervolume"), Column(f"hypervolume − {baseline}")]
    reference = f"reward {float(rows[0]['reference_reward']):.3f} and below KL "
    reference += f"{float(rows[0]['reference_kl']):.3f}"
    cells = [
        [
            words(row["arm"] + (", merged" if row.get("agent") == "merged" else "")),
            *([words(row["learning_rate"])] if has_rates else []),
            Cell(row["seeds"], float(row["seeds"])),
            _with_interval(row, "hypervolume", "{:.3f}"),
            _with_interval(row, "hypervolume_difference", "{:+.3f}"),
        ]
        for row in rows
    ]
    return [
        Table(
            f"Hypervolume: area of the frontier above {reference}, over all iterations and KL "
            "coefficients; more is better",
            columns,
            cells,
        )
    ]


def _with_interval(row: Mapping[str, str], key: str, pattern: str) -> Cell:
    """The mean over seeds ± half its 95% interval, which one seed does not have."""
    if not row.get(key):
        return Cell("–")
    mean, interval = float(row[key]), row.get(f"{key}_interval")
    half_width = f" ± {float(interval):.3f}" if interval and interval != "nan" else ""
    return Cell(pattern.format(mean) + half_width, mean)
