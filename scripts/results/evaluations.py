"""The stored evaluations of one experiment, and what a table asks of them: values by seed.

A team's value is the mean of its agents (`MEAN`): agents of one team are not independent, so they
are averaged before anything is computed over seeds. `merged`, the average of a team's weights, is
a model of its own and no member of the team.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from cory.algorithm.intervals import hypervolume, pareto_front, value_at

MEAN = "mean"
MERGED = "merged"
RUN = ["arm", "seed"]
MEASURES = {"reward": "task_reward", "KL": "kl", "distinct-2": "distinct_2"}
COSTS = {
    "iterations": "step",
    "samples": "total_samples",
    "tokens": "total_tokens",
    "seconds": "total_seconds",
}
REFERENCE_MARGIN = 1.1
"""Hypervolume counts up to this many times the largest KL on the frontier of all runs together."""
BySeed = Mapping[int, float]


@dataclass(frozen=True, eq=False)
class Evaluations:
    """The evaluations of an experiment, one row per arm, seed, agent and iteration.

    Attributes:
        rows: those of the agents, of `mean` and, where there is one, of `merged`.
        compared: those of the comparison that `cory compare` measured together; they alone set the
            reference point of hypervolumes, runs that were added later do not.
    """

    rows: pd.DataFrame
    compared: pd.DataFrame

    @property
    def seeds(self) -> Sequence[int]:
        """Every seed that an arm was run with."""
        return sorted(int(seed) for seed in self.rows["seed"].unique())

    def at_end(self, arm: str, agent: str, name: str) -> BySeed:
        """A measure at the last iteration, or the `hypervolume` of all of them."""
        if name == "hypervolume":
            return self._hypervolumes(arm, agent)
        curves = self._curves(arm, agent)
        return {seed: float(curve[_column(name)].iloc[-1]) for seed, curve in curves.items()}

    def at(self, arm: str, agent: str, name: str, cost: str, spent: float) -> BySeed:
        """A measure where a run has spent so much, linear between evaluations."""
        budgets = dict.fromkeys(self._curves(arm, agent), spent)
        return self._at_budgets(arm, agent, name, cost, budgets)

    def difference(
        self, arm: str, agent: str, baseline: str, name: str, cost: str = "iterations"
    ) -> BySeed:
        """Arm − baseline by seed, at the largest cost that both have reached."""
        if name == "hypervolume":
            return subtracted(self.at_end(arm, agent, name), self.at_end(baseline, MEAN, name))
        own, base = self._curves(arm, agent), self._curves(baseline, MEAN)
        spent = COSTS[cost]
        budgets = {
            seed: min(float(own[seed][spent].iloc[-1]), float(base[seed][spent].iloc[-1]))
            for seed in own
            if seed in base
        }
        return subtracted(
            self._at_budgets(arm, agent, name, cost, budgets),
            self._at_budgets(baseline, MEAN, name, cost, budgets),
        )

    def reward_at_kl(self, arm: str, kl: float) -> BySeed:
        """Reward where the path of a run crosses a KL, averaged over its agents."""
        crossings: dict[int, list[float]] = {}
        for agent in self.agents(arm):
            for seed, curve in self._curves(arm, agent).items():
                reward = value_at(curve["kl"].tolist(), curve["task_reward"].tolist(), kl)
                crossings.setdefault(seed, []).append(reward)
        return {seed: sum(found) / len(found) for seed, found in crossings.items()}

    def collapsed_at(self, arm: str) -> int | None:
        """The first iteration at which an agent of the first seed counts as collapsed."""
        rows = self.rows[(self.rows["arm"] == arm) & (self.rows["agent"] != MEAN)]
        steps = rows[rows["collapsed"].astype(bool)]["step"]
        return None if steps.empty else int(steps.min())

    def agents(self, arm: str) -> Sequence[str]:
        """The members of an arm's team; none if the experiment has no such arm."""
        names = [agent for name, agent in self._curves_of if name == arm]
        return [name for name in names if name not in (MEAN, MERGED)]

    def _curves(self, arm: str, agent: str) -> Mapping[int, pd.DataFrame]:
        if (arm, agent) not in self._curves_of:
            raise ValueError(f"no evaluation of {agent!r} of arm {arm!r} is stored")
        return self._curves_of[arm, agent]

    @cached_property
    def _curves_of(self) -> Mapping[tuple[str, str], Mapping[int, pd.DataFrame]]:
        curves: dict[tuple[str, str], dict[int, pd.DataFrame]] = {}
        for _, rows in self.rows.groupby(["arm", "agent", "seed"]):
            first = rows.iloc[0]
            who = str(first["arm"]), str(first["agent"])
            curves.setdefault(who, {})[int(first["seed"])] = rows.sort_values("step")
        return curves

    def _at_budgets(self, arm: str, agent: str, name: str, cost: str, budgets: BySeed) -> BySeed:
        curves = self._curves(arm, agent)
        return {
            seed: value_at(
                curves[seed][COSTS[cost]].tolist(), curves[seed][_column(name)].tolist(), budget
            )
            for seed, budget in budgets.items()
        }

    def _hypervolumes(self, arm: str, agent: str) -> BySeed:
        """Each agent's evaluations have a frontier of their own; a team's area is their mean."""
        volumes: dict[int, list[float]] = {}
        for member in self.agents(arm) if agent == MEAN else [agent]:
            for seed, volume in self._volumes[arm, member].items():
                volumes.setdefault(seed, []).append(volume)
        return {seed: sum(found) / len(found) for seed, found in volumes.items()}

    @cached_property
    def _volumes(self) -> Mapping[tuple[str, str], BySeed]:
        return {
            who: {
                seed: hypervolume(_points(curve), self._reference) for seed, curve in curves.items()
            }
            for who, curves in self._curves_of.items()
            if who[1] != MEAN
        }

    @cached_property
    def _reference(self) -> tuple[float, float]:
        """The initial model's reward, and the largest KL that counts."""
        initial = float(self.compared.loc[self.compared["step"] == 0, "task_reward"].mean())
        front = pareto_front(_points(self.compared))
        return initial, REFERENCE_MARGIN * max(kl for _, kl in front)


def subtracted(values: BySeed, base: BySeed) -> BySeed:
    """The differences of the seeds that both have."""
    return {seed: values[seed] - base[seed] for seed in values if seed in base}


def read_evaluations(compared: Path, added: Sequence[Path] = ()) -> Evaluations:
    """Read the long-form CSV files that `cory compare` writes.

    Args:
        compared: the comparison.
        added: runs of further arms or seeds under the same settings.

    Raises:
        ValueError: a run was cut off before its last iteration.
    """
    tables = [_read(path) for path in (compared, *added)]
    table = pd.concat(tables, ignore_index=True)
    members = table[table["agent"] != MERGED]
    mean = members.groupby([*RUN, "step"], sort=False, as_index=False).mean(numeric_only=True)
    return Evaluations(
        pd.concat([table, mean.assign(agent=MEAN)], ignore_index=True), compared=tables[0]
    )


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    if not {"kl_coef", "learning_rate"} <= set(table):
        return table
    last = table.groupby(RUN)["step"].max()
    if last.nunique() > 1 or len(table[["kl_coef", "learning_rate"]].drop_duplicates()) > 1:
        raise ValueError(
            f"{path} mixes runs of {sorted(set(last))} iterations, or several coefficients or "
            "rates: store one setting a file, with every run at its end"
        )
    return table


def _column(name: str) -> str:
    return MEASURES.get(name, name)


def _points(rows: pd.DataFrame) -> list[tuple[float, float]]:
    return list(zip(rows["task_reward"].tolist(), rows["kl"].tolist(), strict=True))
