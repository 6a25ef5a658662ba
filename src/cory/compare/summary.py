"""From a table of evaluations to what is read: means over seeds, paired differences, frontiers.

A comparison is summed up here, once. Console tables and pages read the CSV files, so nobody
computes a mean, an interval or a difference again.

Differences are always taken to the `mean` of the baseline arm's agents, at the same KL coefficient,
learning rate and seed. Where arms are paid differently there are none of `task_reward`, which has
another unit in each, but those of each reward function.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import product
from math import nan
from pathlib import Path

import pandas as pd

from cory.algorithm.intervals import estimate, paired_difference, value_at
from cory.compare.derived import columns_of, furthest, rewards_of, with_derived_agents
from cory.compare.frontier import frontier
from cory.compare.plan import Comparison, PlannedRun
from cory.compare.results import CELL, COLUMNS, RUN_KEYS, TOTALS, gather
from cory.io.files import replacing

EQUAL = {"": "step", **{total.replace("total", "_at"): total for total in TOTALS}}
"""At what differences are taken: the end of their column's name, and the column that is equal."""


def write_tables(comparison: Comparison, runs: Sequence[PlannedRun], output_dir: Path) -> None:
    """Write results and their summary from what the runs have measured so far.

    Raises:
        ValueError: no run was evaluated.
    """
    table = gather(runs, output_dir)
    if table.empty:
        raise ValueError(f"no run in {output_dir} was evaluated, so there is nothing to compare")
    write_summary(table, runs, comparison.baseline_arm, output_dir)


def write_summary(
    table: pd.DataFrame, runs: Sequence[PlannedRun], baseline: str, output_dir: Path
) -> None:
    """Write a table of evaluations and everything that is computed from it.

    Args:
        table: as `cory.compare.results.gather` makes it.
        runs: that were planned, also those which are not in the table.
        baseline: an arm.
        output_dir: for results, curves, summary, frontier and robustness, each a CSV file.
    """
    with replacing(output_dir / "results.parquet") as partial:
        table.to_parquet(partial, index=False)
    tables = {
        "results": table,
        "curves": average_curves(table),
        "summary": summarise(table, baseline),
        "frontier": frontier(table, baseline),
        "robustness": robustness(table, runs),
    }
    for name, each in tables.items():
        with replacing(output_dir / f"{name}.csv") as partial:
            each.to_csv(partial, index=False)


def average_curves(table: pd.DataFrame) -> pd.DataFrame:
    """A row per arm, KL coefficient, learning rate, agent and evaluation.

    For every measure: its mean over the seeds that were evaluated there and `…_interval`, half of
    the 95% interval. `total_…` are means over seeds. Runs that were cut off before others of their
    place are left out, so that a curve is of the same seeds everywhere.
    """
    place = [*CELL, "agent", "step"]
    evaluations = furthest(with_derived_agents(table), by=CELL)
    return pd.DataFrame(
        {**dict(zip(place, of_row, strict=True)), **_averages(rows)}
        for of_row, rows in evaluations.groupby(place, sort=False)
    )


def summarise(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """A row per arm, KL coefficient, learning rate and agent at the last iteration.

    Means and intervals as in `average_curves`. For reward, KL and `combined_reward` (reward − η·KL)
    also the paired `…_difference` to the baseline after equal iterations and, as
    `…_difference_at_samples`, `_at_tokens` and `_at_seconds`, at the largest cost that both have
    reached, curves taken as linear between evaluations. `pairs` is the number of seeds that both
    have, `difference_step` the iteration that both have reached. Runs that were cut off before
    others of their arm are left out.
    """
    rewards = rewards_of(table)
    compared = [*rewards, "kl", *(["combined_reward"] if rewards == ["task_reward"] else [])]
    curves = furthest(with_derived_agents(table))
    groups = dict(list(curves.groupby([*CELL, "agent"], sort=False)))
    rows = []
    for (arm, kl_coef, rate, agent), group in groups.items():
        last = group[group["step"] == group["step"].max()]
        row = {"arm": arm, "kl_coef": kl_coef, "learning_rate": rate, "agent": agent}
        row |= {"step": int(last["step"].iloc[0]), **_averages(last)}
        if arm != baseline:
            base = groups.get((baseline, kl_coef, rate, "mean"), group.iloc[:0])
            row |= _differences(group, base, [name for name in compared if name in table])
        rows.append(row)
    return pd.DataFrame(rows)


def robustness(table: pd.DataFrame, runs: Iterable[PlannedRun]) -> pd.DataFrame:
    """Per arm, KL coefficient and learning rate: how many runs came through.

    A run survives if every agent was evaluated at the last iteration and none has collapsed then.
    """
    collapsed = table.groupby([*RUN_KEYS, "step"])["collapsed"].any().to_dict()
    rows = []
    for run in runs:
        place = [run.arm, run.kl_coef, run.learning_rate]
        outcome = collapsed.get((*place, run.seed, run.args.max_steps))
        rows.append([*place, 1, outcome is None, bool(outcome)])
    counts = pd.DataFrame(rows, columns=[*CELL, "runs", "failed", "collapsed"])
    summary = counts.groupby(CELL, sort=False, as_index=False).sum()
    survived = summary["runs"] - summary["failed"] - summary["collapsed"]
    return summary.assign(survived_share=survived / summary["runs"])


def _averages(rows: pd.DataFrame) -> dict[str, float]:
    """Number of seeds, costs and measures of one agent at one step, averaged over seeds.

    Intervals over queries are not averaged.
    """
    found: dict[str, float] = {"seeds": len(rows)}
    found |= {total: float(rows[total].mean()) for total in TOTALS}
    for name in rows.columns:
        if name not in COLUMNS and not name.endswith("_ci95"):
            found |= columns_of(name, estimate(rows[name]))
    return found


def _by_seed(rows: pd.DataFrame) -> Mapping[Hashable, pd.DataFrame]:
    return {seed: curve.sort_values("step") for seed, curve in rows.groupby("seed")}


def _differences(
    group: pd.DataFrame, baseline: pd.DataFrame, compared: Sequence[str]
) -> dict[str, float]:
    """The paired differences after equal iterations, and at equal cost for each kind of cost."""
    own, base = _by_seed(group), _by_seed(baseline)
    shared = own.keys() & base.keys()
    steps = [min(float(curves[seed]["step"].max()) for curves in (own, base)) for seed in shared]
    columns: dict[str, float] = {"pairs": len(shared), "difference_step": min(steps, default=nan)}
    for name, (suffix, equal) in product(compared, EQUAL.items()):
        ends = {
            seed: min(float(curves[seed][equal].iloc[-1]) for curves in (own, base))
            for seed in own
            if seed in base
        }
        ours, theirs = (
            {
                seed: value_at(curves[seed][equal].tolist(), curves[seed][name].tolist(), end)
                for seed, end in ends.items()
            }
            for curves in (own, base)
        )
        columns |= columns_of(f"{name}_difference{suffix}", paired_difference(ours, theirs))
    return columns
