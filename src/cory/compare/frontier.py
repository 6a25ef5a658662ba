"""The reward–KL frontier of each arm: its hypervolume, and the reward at its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cory.algorithm.intervals import Point, estimate, hypervolume, paired_difference, pareto_front
from cory.compare.derived import columns_of, complete, rewards_of, with_derived_agents

REFERENCE_MARGIN = 1.1
Place = tuple[Any, Any, str]
"""Arm, learning rate, and agent: `mean` or `merged`."""


def frontier(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """A row per reward, arm and learning rate, over all KL coefficients; `merged` has its own.

    `hypervolume` is that of the reward–KL points of all evaluations, `final_reward` the reward
    after the last iteration. Both are of runs that came to their end: one that was cut off had no
    time to reach what the others did.
    """
    rewards = rewards_of(table)
    if not rewards:  # arms are paid differently, and no function was measured alone
        table, rewards = table.assign(task_reward=np.nan), ["task_reward"]
    return pd.DataFrame(
        row for reward in rewards for row in _rows_of_reward(table, reward, baseline)
    )


def _rows_of_reward(table: pd.DataFrame, reward: str, baseline: str) -> list[dict[str, Any]]:
    ended = complete(table)
    reference = reference_point(ended, reward)
    volumes = _hypervolumes(ended, reward, reference)
    final = with_derived_agents(ended)
    final = final[final["step"] == final["max_steps"]]
    final_rewards = dict(list(final.groupby(["arm", "learning_rate", "agent"])[reward]))
    rows = []
    for arm, rate, agent in _places(table):
        by_seed = volumes.get((arm, rate, agent), {})
        row = {"reward": reward, "arm": arm, "learning_rate": rate, "agent": agent}
        row |= {"seeds": len(by_seed), **columns_of("hypervolume", estimate(by_seed.values()))}
        if (arm, agent) != (baseline, "mean"):
            difference = paired_difference(by_seed, volumes.get((baseline, rate, "mean"), {}))
            row |= {"pairs": difference.count, **columns_of("hypervolume_difference", difference)}
        row |= {"reference_reward": reference[0], "reference_kl": reference[1]}
        row |= columns_of("final_reward", estimate(final_rewards.get((arm, rate, agent), ())))
        rows.append(row)
    return rows


def reference_point(table: pd.DataFrame, reward: str = "task_reward") -> Point:
    """The point that all hypervolumes of a comparison are measured from.

    Its reward is the initial model's, its KL 1.1 times the largest on the frontier of all runs
    together: the initial model is worth nothing, and a run that has collapsed does not set the
    scale unless it is on the frontier. Both are nan without any run.
    """
    initial = table.loc[table["step"] == 0, reward].mean()
    front = pareto_front(_points(table, reward))
    return float(initial), REFERENCE_MARGIN * max((kl for _, kl in front), default=np.nan)


def _hypervolumes(
    table: pd.DataFrame, reward: str, reference: Point
) -> dict[Place, dict[Any, float]]:
    """Hypervolumes by place, then by seed.

    Each agent's evaluations have a frontier of their own, and a run's hypervolume, that of `mean`,
    is the mean over its agents: with all their points in one frontier a team would gain by mere
    numbers, since a frontier keeps the luckiest of its points.
    """
    volumes: dict[Place, dict[Any, list[float]]] = {}
    for (arm, rate, agent, seed), curve in table.dropna(subset=[reward, "kl"]).groupby(
        ["arm", "learning_rate", "agent", "seed"], sort=False
    ):
        volume = hypervolume(_points(curve, reward), reference)
        volumes.setdefault(_place(arm, rate, agent), {}).setdefault(seed, []).append(volume)
    return {
        place: {seed: sum(of_agents) / len(of_agents) for seed, of_agents in by_seed.items()}
        for place, by_seed in volumes.items()
    }


def _places(table: pd.DataFrame) -> list[Place]:
    """All that have a row, also those of which no run came to its end."""
    names = zip(table["arm"], table["learning_rate"], table["agent"], strict=True)
    return list(dict.fromkeys(_place(*of_row) for of_row in names))


def _place(arm: Any, rate: Any, agent: Any) -> Place:
    return arm, rate, "merged" if agent == "merged" else "mean"


def _points(table: pd.DataFrame, reward: str) -> list[Point]:
    rows = table.dropna(subset=[reward, "kl"])
    return list(zip(rows[reward].tolist(), rows["kl"].tolist(), strict=True))
