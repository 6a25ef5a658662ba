"""From the tidy table to what is read: means and intervals over seeds, differences paired by seed.

Beside the agents there are two derived ones: `mean`, the mean over a team's agents, and `worst`,
the agent with the least reward. Differences are always taken to the `mean` of the baseline arm, at
the same KL coefficient, learning rate and seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from cory.compare.plan import PlannedRun
from cory.compare.results import RUN_KEYS

COSTS = {"samples": "total_samples", "tokens": "total_tokens", "seconds": "total_seconds"}
AIMS = ["task_reward", "kl"]
COMPARED = [*AIMS, "combined_reward"]
NOT_MEASURES = frozenset({*RUN_KEYS, "agent", "step", "run", "collapsed", *COSTS.values()})
REFERENCE_MARGIN = 1.1
Curves = Mapping[Any, pd.DataFrame]
"""The evaluations of one agent, by seed."""


def summarise(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """A row per arm, KL coefficient, learning rate and agent at the last iteration.

    For every measure: its mean over seeds and `…_interval`, half of the 95% interval. For reward,
    KL and `combined_reward` (reward − η·KL) also the paired `…_difference` to the baseline after
    equal iterations and, as `…_difference_at_samples`, `_at_tokens` and `_at_seconds`, at the
    largest cost that both have reached, curves taken as linear between evaluations. `total_…` are
    means over seeds. Runs that were cut off are left out.
    """
    curves = with_derived_agents(_complete(table))
    rows = []
    for place, group in curves.groupby(["kl_coef", "learning_rate", "arm", "agent"], sort=False):
        kl_coef, learning_rate, arm, agent = place
        last = group[group["step"] == group["step"].max()]
        row: dict[str, Any] = {
            "arm": arm,
            "kl_coef": kl_coef,
            "learning_rate": learning_rate,
            "agent": agent,
            "step": int(last["step"].iloc[0]),
            "seeds": len(last),
        }
        row |= {total: last[total].mean() for total in COSTS.values()}
        for name in _measures(last):
            row |= _columns(name, estimate(last[name]))
        if arm != baseline:
            base = curves[
                (curves["arm"] == baseline)
                & (curves["agent"] == "mean")
                & (curves["kl_coef"] == kl_coef)
                & (curves["learning_rate"] == learning_rate)
            ]
            for name in COMPARED:
                row |= _differences(_by_seed(group), _by_seed(base), name)
        rows.append(row)
    return pd.DataFrame(rows)


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """The evaluations of runs that came as far as their arm's longest."""
    last_of_run = table.groupby("run")["step"].transform("max")
    combined = table["task_reward"] - table["kl_coef"] * table["kl"]
    whole = table.assign(combined_reward=combined)
    return whole[last_of_run == table.groupby("arm")["step"].transform("max")]


def _measures(table: pd.DataFrame) -> list[str]:
    """Measures of an evaluation; intervals over queries are not averaged over seeds."""
    return [
        name for name in table.columns if name not in NOT_MEASURES and not name.endswith("_ci95")
    ]


def _by_seed(rows: pd.DataFrame) -> Curves:
    return {seed: curve.sort_values("step") for seed, curve in rows.groupby("seed")}


def with_derived_agents(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the rows of `mean` and `worst` for every run and step.

    `merged`, the average of a team's weights, is a result of its own and no member of the team.
    """
    members = table[table["agent"] != "merged"]
    places = [*RUN_KEYS, "step"]
    mean = members.groupby(places, sort=False, as_index=False).mean(numeric_only=True)
    # Without a reward there is no worst; nan sorts last, so an agent that has one is taken.
    worst = members.sort_values("task_reward", kind="stable").groupby(places, sort=False).head(1)
    return pd.concat(
        [table, mean.assign(agent="mean"), worst.assign(agent="worst")], ignore_index=True
    )


def frontier(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Hypervolume of the reward–KL points of an arm at a learning rate, over all KL coefficients.

    Each agent's evaluations have a frontier of their own, and a run's hypervolume, that of `mean`,
    is the mean over its agents: with all their points in one frontier a team would gain by mere
    numbers, since a frontier keeps the luckiest of its points. `merged` has a row of its own.
    """
    reference = reference_point(table)
    points = table.dropna(subset=AIMS)
    volumes: dict[tuple[Any, Any, str], dict[Any, list[float]]] = {}
    for (arm, rate, agent, seed), curve in points.groupby(
        ["arm", "learning_rate", "agent", "seed"], sort=False
    ):
        place = (arm, rate, "merged" if agent == "merged" else "mean")
        volume = hypervolume(_points(curve), reference)
        volumes.setdefault(place, {}).setdefault(seed, []).append(volume)
    means = {
        place: {seed: sum(of_agents) / len(of_agents) for seed, of_agents in by_seed.items()}
        for place, by_seed in volumes.items()
    }
    rows = []
    for (arm, rate, agent), by_seed in means.items():
        row = {"arm": arm, "learning_rate": rate, "agent": agent, "seeds": len(by_seed)}
        row |= _columns("hypervolume", estimate(by_seed.values()))
        if (arm, agent) != (baseline, "mean"):
            difference = paired_difference(by_seed, means.get((baseline, rate, "mean"), {}))
            row |= _columns("hypervolume_difference", difference)
        rows.append({**row, "reference_reward": reference[0], "reference_kl": reference[1]})
    return pd.DataFrame(rows)


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
    counts: dict[tuple[str, float, float], dict[str, int]] = {}
    for run in runs:
        place = (run.arm, run.kl_coef, run.learning_rate)
        count = counts.setdefault(place, {"runs": 0, "failed": 0, "collapsed": 0})
        outcome = collapsed.get((*place, run.seed, run.args.max_steps))
        count["runs"] += 1
        count["failed"] += outcome is None
        count["collapsed"] += bool(outcome)
    rows = [
        {"arm": arm, "kl_coef": kl_coef, "learning_rate": rate, **count}
        for (arm, kl_coef, rate), count in counts.items()
    ]
    summary = pd.DataFrame(rows)
    survived = summary["runs"] - summary["failed"] - summary["collapsed"]
    return summary.assign(survived_share=survived / summary["runs"])


def _differences(own: Curves, base: Curves, name: str) -> dict[str, float]:
    """The paired difference after equal iterations, and at equal cost for each kind of cost."""
    columns: dict[str, float] = {}
    for suffix, total in {"": "step", **{f"_at_{cost}": COSTS[cost] for cost in COSTS}}.items():
        budgets = {
            seed: float(min(own[seed][total].iloc[-1], base[seed][total].iloc[-1]))
            for seed in own
            if seed in base
        }

        def values(curves: Curves, total: str = total, budgets: Any = budgets) -> dict[Any, float]:
            return {
                seed: value_at(curves[seed][total].tolist(), curves[seed][name].tolist(), budget)
                for seed, budget in budgets.items()
            }

        difference = paired_difference(values(own), values(base))
        columns |= _columns(f"{name}_difference{suffix}", difference)
    return columns


def _columns(name: str, result: Estimate) -> dict[str, float]:
    return {name: result.mean, f"{name}_interval": result.half_width}


def _points(rows: pd.DataFrame) -> list[Point]:
    return list(zip(rows["task_reward"].tolist(), rows["kl"].tolist(), strict=True))
