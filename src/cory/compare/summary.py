"""From a table of evaluations to what is read: means over seeds, paired differences, frontiers.

A comparison is summed up here, once. Console tables and pages read the CSV files, so nobody
computes a mean, an interval or a difference again.

Beside the agents there are two derived ones: `mean`, the mean over a team's agents, and `worst`,
the agent with the least reward. Differences are always taken to the `mean` of the baseline arm, at
the same KL coefficient, learning rate and seed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from cory.algorithm.intervals import (
    Estimate,
    Point,
    estimate,
    hypervolume,
    paired_difference,
    pareto_front,
    value_at,
)
from cory.compare.plan import Comparison, PlannedRun
from cory.compare.results import CELL, COLUMNS, RUN_KEYS, TOTALS, gather
from cory.io.files import replacing

AIMS = ["task_reward", "kl"]
COMPARED = [*AIMS, "combined_reward"]
EQUAL = {"": "step", **{total.replace("total", "_at"): total for total in TOTALS}}
"""At what differences are taken: the end of their column's name, and the column that is equal."""
REFERENCE_MARGIN = 1.1


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
    the 95% interval. `total_…` are means over seeds.
    """
    place = [*CELL, "agent", "step"]
    return pd.DataFrame(
        {**dict(zip(place, of_row, strict=True)), **_averages(rows)}
        for of_row, rows in with_derived_agents(table).groupby(place, sort=False)
    )


def summarise(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """A row per arm, KL coefficient, learning rate and agent at the last iteration.

    Means and intervals as in `average_curves`. For reward, KL and `combined_reward` (reward − η·KL)
    also the paired `…_difference` to the baseline after equal iterations and, as
    `…_difference_at_samples`, `_at_tokens` and `_at_seconds`, at the largest cost that both have
    reached, curves taken as linear between evaluations. Runs that were cut off are left out.
    """
    curves = _complete(with_derived_agents(table))
    groups = dict(list(curves.groupby([*CELL, "agent"], sort=False)))
    rows = []
    for (arm, kl_coef, rate, agent), group in groups.items():
        last = group[group["step"] == group["step"].max()]
        row = {"arm": arm, "kl_coef": kl_coef, "learning_rate": rate, "agent": agent}
        row |= {"step": int(last["step"].iloc[0]), **_averages(last)}
        if arm != baseline:
            base = groups.get((baseline, kl_coef, rate, "mean"), group.iloc[:0])
            row |= _differences(group, base)
        rows.append(row)
    return pd.DataFrame(rows)


def with_derived_agents(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `combined_reward`, and with rows of `mean` and `worst` for every run and step.

    `merged`, the average of a team's weights, is a result of its own and no member of the team.
    """
    table = table.assign(combined_reward=table["task_reward"] - table["kl_coef"] * table["kl"])
    members = table[table["agent"] != "merged"]
    places = [*RUN_KEYS, "step"]
    mean = members.groupby(places, sort=False, as_index=False).mean(numeric_only=True)
    # Without a reward there is no worst; nan sorts last, so an agent that has one is taken.
    worst = members.sort_values("task_reward", kind="stable").groupby(places, sort=False).head(1)
    return pd.concat(
        [table, mean.assign(agent="mean"), worst.assign(agent="worst")], ignore_index=True
    )


def frontier(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """A row per arm and learning rate, over all KL coefficients; `merged` has one of its own.

    `hypervolume` is that of the reward–KL points of all evaluations, `final_reward` the reward
    after the last iteration.
    """
    reference = reference_point(table)
    volumes = _hypervolumes(table, reference)
    final = _complete(with_derived_agents(table))
    final = final[final["step"] == final.groupby("arm")["step"].transform("max")]
    final_rewards = dict(list(final.groupby(["arm", "learning_rate", "agent"])["task_reward"]))
    rows = []
    for (arm, rate, agent), by_seed in volumes.items():
        row = {"arm": arm, "learning_rate": rate, "agent": agent, "seeds": len(by_seed)}
        row |= _columns("hypervolume", estimate(by_seed.values()))
        if (arm, agent) != (baseline, "mean"):
            difference = paired_difference(by_seed, volumes.get((baseline, rate, "mean"), {}))
            row |= _columns("hypervolume_difference", difference)
        row |= {"reference_reward": reference[0], "reference_kl": reference[1]}
        row |= _columns("final_reward", estimate(final_rewards.get((arm, rate, agent), ())))
        rows.append(row)
    return pd.DataFrame(rows)


def _hypervolumes(
    table: pd.DataFrame, reference: Point
) -> dict[tuple[Any, Any, str], dict[Any, float]]:
    """Hypervolumes by arm, learning rate and agent (`mean` or `merged`), then by seed.

    Each agent's evaluations have a frontier of their own, and a run's hypervolume, that of `mean`,
    is the mean over its agents: with all their points in one frontier a team would gain by mere
    numbers, since a frontier keeps the luckiest of its points.
    """
    volumes: dict[tuple[Any, Any, str], dict[Any, list[float]]] = {}
    for (arm, rate, agent, seed), curve in table.dropna(subset=AIMS).groupby(
        ["arm", "learning_rate", "agent", "seed"], sort=False
    ):
        place = (arm, rate, "merged" if agent == "merged" else "mean")
        volume = hypervolume(_points(curve), reference)
        volumes.setdefault(place, {}).setdefault(seed, []).append(volume)
    return {
        place: {seed: sum(of_agents) / len(of_agents) for seed, of_agents in by_seed.items()}
        for place, by_seed in volumes.items()
    }


def reference_point(table: pd.DataFrame) -> Point:
    """The point that all hypervolumes of a comparison are measured from.

    Its reward is the initial model's, its KL 1.1 times the largest on the frontier of all runs
    together: the initial model is worth nothing, and a run that has collapsed does not set the
    scale unless it is on the frontier.
    """
    initial = table.loc[table["step"] == 0, "task_reward"].mean()
    front = pareto_front(_points(table.dropna(subset=AIMS)))
    return float(initial), REFERENCE_MARGIN * max(kl for _, kl in front)


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


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """The evaluations of runs that came as far as their arm's longest."""
    last_of_run = table.groupby(RUN_KEYS)["step"].transform("max")
    return table[last_of_run == table.groupby("arm")["step"].transform("max")]


def _averages(rows: pd.DataFrame) -> dict[str, float]:
    """Number of seeds, costs and measures of one agent at one step, averaged over seeds.

    Intervals over queries are not averaged.
    """
    found: dict[str, float] = {"seeds": len(rows)}
    found |= {total: float(rows[total].mean()) for total in TOTALS}
    for name in rows.columns:
        if name not in COLUMNS and not name.endswith("_ci95"):
            found |= _columns(name, estimate(rows[name]))
    return found


def _by_seed(rows: pd.DataFrame) -> Mapping[Hashable, pd.DataFrame]:
    return {seed: curve.sort_values("step") for seed, curve in rows.groupby("seed")}


def _differences(group: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, float]:
    """The paired differences after equal iterations, and at equal cost for each kind of cost."""
    own, base = _by_seed(group), _by_seed(baseline)
    columns: dict[str, float] = {}
    for name, (suffix, equal) in product(COMPARED, EQUAL.items()):
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
        columns |= _columns(f"{name}_difference{suffix}", paired_difference(ours, theirs))
    return columns


def _columns(name: str, result: Estimate) -> dict[str, float]:
    return {name: result.mean, f"{name}_interval": result.half_width}


def _points(rows: pd.DataFrame) -> list[Point]:
    return list(zip(rows["task_reward"].tolist(), rows["kl"].tolist(), strict=True))
