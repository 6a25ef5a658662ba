"""The tables that a comparison leaves beside its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cory.compare.plan import Comparison, PlannedRun
from cory.compare.results import gather, write_results
from cory.compare.summary import frontier, robustness, summarise


def write_tables(comparison: Comparison, runs: Sequence[PlannedRun], output_dir: Path) -> None:
    """Write results, summary, frontier and robustness from what the runs have measured so far.

    Raises:
        ValueError: no run was evaluated.
    """
    table = gather(runs, output_dir, comparison.collapse)
    if table.empty:
        raise ValueError(f"no run in {output_dir} was evaluated, so there is nothing to compare")
    write_results(table, output_dir)
    baseline = comparison.baseline_arm
    summarise(table, baseline).to_csv(output_dir / "summary.csv", index=False)
    frontier(table, baseline).to_csv(output_dir / "frontier.csv", index=False)
    robustness(table, runs).to_csv(output_dir / "robustness.csv", index=False)
