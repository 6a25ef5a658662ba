"""What a comparison leaves beside its runs: tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cory.compare.curves import draw_all
from cory.compare.plan import Comparison, PlannedRun
from cory.compare.results import gather, write_results
from cory.compare.summary import frontier, robustness, summarise


def publish(comparison: Comparison, runs: Sequence[PlannedRun], output_dir: Path) -> None:
    """Write all tables and plots from what the runs have measured so far.

    Raises:
        ValueError: no run was evaluated.
    """
    table, survivors = write_tables(comparison, runs, output_dir)
    draw_all(table, survivors, output_dir / "plots")


def write_tables(
    comparison: Comparison, runs: Sequence[PlannedRun], output_dir: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write results, summary, frontier and robustness.

    Returns:
        the tidy table of all evaluations, and who came through.

    Raises:
        ValueError: no run was evaluated.
    """
    table = gather(runs, output_dir, comparison.collapse)
    if table.empty:
        raise ValueError(f"no run in {output_dir} was evaluated, so there is nothing to compare")
    write_results(table, output_dir)
    baseline, survivors = comparison.baseline_arm, robustness(table, runs)
    summarise(table, baseline).to_csv(output_dir / "summary.csv", index=False)
    frontier(table, baseline).to_csv(output_dir / "frontier.csv", index=False)
    survivors.to_csv(output_dir / "robustness.csv", index=False)
    return table, survivors
