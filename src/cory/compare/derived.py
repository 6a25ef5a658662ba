"""Which rows of a table of evaluations count, by which rewards, and agents that stand for several.

Beside the agents there are two derived ones: `mean`, the mean over a team's agents, and `worst`,
the agent with the least reward.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cory.algorithm.intervals import Estimate
from cory.compare.results import REWARD_PART, RUN_KEYS


def rewards_of(table: pd.DataFrame) -> list[str]:
    """The measures of reward that arms can be compared by.

    `task_reward` where all are paid alike. Else it has another unit in each arm, so each reward
    function is compared alone: every `reward/NAME`.
    """
    if table["paid_by"].nunique() < 2:
        return ["task_reward"]
    return [name for name in map(str, table.columns) if name.startswith(REWARD_PART)]


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """The evaluations of runs that came to their end."""
    return table[_last_of_run(table) == table["max_steps"]]


def furthest(table: pd.DataFrame, by: Sequence[str] = ("arm",)) -> pd.DataFrame:
    """The evaluations of runs that came as far as the longest of their arm, or of their cell.

    Where no run came to its end, these are cut off at the same iteration.
    """
    return table[_last_of_run(table) == table.groupby(list(by))["step"].transform("max")]


def with_derived_agents(table: pd.DataFrame) -> pd.DataFrame:
    """The table with rows of `mean` and `worst` for every run and step.

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


def columns_of(name: str, result: Estimate) -> dict[str, float]:
    """A mean and half its interval, by the names of their columns."""
    return {name: result.mean, f"{name}_interval": result.half_width}


def _last_of_run(table: pd.DataFrame) -> pd.Series:
    return table.groupby(RUN_KEYS)["step"].transform("max")
