"""What a column of a table says of a row: a level, a difference, or what it took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from cory.algorithm.intervals import Estimate, estimate
from scripts.results.evaluations import MEAN, BySeed, Evaluations

DECIMALS = {"reward": 3, "KL": 2, "hypervolume": 2, "distinct-2": 2}
NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """One line of a table: an arm of an experiment, and what it is compared with.

    Attributes:
        experiment: name of the experiment.
        arm: name of the arm, as in its CSV.
        label: what stands in the first column; the arm's name unless given.
        agent: `mean` over the team's agents, one agent, or `merged`.
        baseline: the arm that this row's differences are taken to, unless the column names one.
    """

    experiment: str
    arm: str
    label: str = ""
    agent: str = MEAN
    baseline: str = ""


class Column(Protocol):
    """A heading, and a cell for every row."""

    @property
    def heading(self) -> str: ...

    def cell(self, row: Row, evaluations: Evaluations) -> str: ...


@dataclass(frozen=True)
class Level:
    """Mean ± 95% interval over seeds, at the end or where so much has been spent."""

    name: str
    spent: float | None = None
    cost: str = "iterations"
    decimals: int | None = None
    arm: str = ""
    agent: str = ""
    title: str = ""

    @property
    def heading(self) -> str:
        if self.title or self.spent is None:
            return self.title or self.name
        return f"{self.spent:g}"

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        arm, agents = self.arm or row.arm, evaluations.agents(self.arm or row.arm)
        if not agents or (self.agent and self.agent not in agents):
            return NOTHING
        place = arm, self.agent or row.agent, self.name
        if self.spent is None:
            values = evaluations.at_end(*place)
        else:
            values = evaluations.at(*place, self.cost, self.spent)
        return with_interval(values, decimals(self.name, self.decimals))


@dataclass(frozen=True)
class Difference:
    """Arm − baseline, paired by seed, ± 95% interval; bold where that leaves out 0."""

    name: str
    baseline: str = ""
    spent: float | None = None
    cost: str = "iterations"
    decimals: int | None = None
    title: str = ""

    @property
    def heading(self) -> str:
        if self.title:
            return self.title
        if self.spent is not None:
            return f"{self.spent:g}"
        return f"{self.name} − {self.baseline}" if self.baseline else self.name

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        baseline = self.baseline or row.baseline
        if (row.arm, row.agent) == (baseline, MEAN):
            return NOTHING
        return difference_text(self.of(row, evaluations), decimals(self.name, self.decimals))

    def of(self, row: Row, evaluations: Evaluations) -> BySeed:
        """The differences by seed."""
        baseline = self.baseline or row.baseline
        if self.spent is None:
            return evaluations.difference(row.arm, row.agent, baseline, self.name, self.cost)
        own = evaluations.at(row.arm, row.agent, self.name, self.cost, self.spent)
        base = evaluations.at(baseline, MEAN, self.name, self.cost, self.spent)
        return {seed: own[seed] - base[seed] for seed in own if seed in base}


@dataclass(frozen=True)
class Total:
    """Samples, tokens or seconds of training, averaged over seeds."""

    cost: str
    arm: str = ""

    @property
    def heading(self) -> str:
        return f"`{self.arm}`" if self.arm else self.cost

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        arm = self.arm or row.arm
        if not evaluations.agents(arm):
            return NOTHING
        spent = evaluations.at_end(arm, MEAN, f"total_{self.cost}")
        return f"{estimate(spent.values()).mean:,.0f}"


@dataclass(frozen=True)
class ByQueries:
    """A measure of the one seed that was run, with its 95% interval over held-out queries."""

    name: str
    decimals: int | None = None

    @property
    def heading(self) -> str:
        return f"{self.name} (± over queries)"

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        key = {"reward": "task_reward", "KL": "kl"}[self.name]
        (value,) = evaluations.at_end(row.arm, row.agent, key).values()
        (width,) = evaluations.at_end(row.arm, row.agent, f"{key}_ci95").values()
        places = decimals(self.name, self.decimals)
        return f"{signed(value, places)} (± {width:.{places}f})"


@dataclass(frozen=True)
class Combined:
    """Reward − η · KL at the end, the paper's measure."""

    kl_coef: float
    decimals: int = 2
    heading: str = "reward − η·KL"

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        reward = evaluations.at_end(row.arm, row.agent, "reward")
        kl = evaluations.at_end(row.arm, row.agent, "KL")
        values = {seed: reward[seed] - self.kl_coef * kl[seed] for seed in reward}
        return with_interval(values, self.decimals)


@dataclass(frozen=True)
class AtKL:
    """Reward where the path of training crosses a KL."""

    kl: float

    @property
    def heading(self) -> str:
        return f"{self.kl:g}"

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        return with_interval(evaluations.reward_at_kl(row.arm, self.kl), 2)


@dataclass(frozen=True)
class CollapsedAt:
    """The first iteration at which an agent counts as collapsed."""

    heading: str = "collapsed at iteration"

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        step = evaluations.collapsed_at(row.arm)
        return NOTHING if step is None else str(step)


@dataclass(frozen=True)
class Seeds:
    """How many seeds the arm was run with, or shares with its baseline."""

    heading: str = "seeds"

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        shared = evaluations.at_end(row.arm, row.agent, "reward")
        if row.baseline:
            shared = evaluations.difference(row.arm, row.agent, row.baseline, "reward")
        return str(len(shared))


@dataclass(frozen=True)
class Compared:
    """What the row subtracts from what."""

    heading: str = "difference"

    def cell(self, row: Row, evaluations: Evaluations) -> str:
        return f"`{row.arm}` − `{row.baseline}`"


def decimals(name: str, given: int | None) -> int:
    """Digits behind the point: those given, else those of the measure."""
    return DECIMALS.get(name, 2) if given is None else given


def with_interval(values: BySeed, places: int) -> str:
    """Mean ± 95% interval; the mean alone where there is one seed."""
    found = estimate(values.values())
    return NOTHING if math.isnan(found.mean) else interval_text(found, places)


def interval_text(found: Estimate, places: int, *, plus: bool = False) -> str:
    """Mean ± 95% interval, or the mean alone; `plus` gives a positive mean its sign."""
    text = signed(found.mean, places, plus=plus)
    return text if math.isnan(found.half_width) else f"{text} ± {found.half_width:.{places}f}"


def difference_text(values: BySeed, places: int) -> str:
    """Mean ± 95% interval with its sign, bold where the interval leaves out 0."""
    found = estimate(values.values())
    if math.isnan(found.mean):
        return NOTHING
    text = interval_text(found, places, plus=True)
    return f"**{text}**" if abs(found.mean) > found.half_width else text


def signed(value: float, places: int, *, plus: bool = False) -> str:
    """A number with a true minus sign; zero has none."""
    text = f"{value:+.{places}f}" if plus else f"{value:.{places}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")
    return text.replace("-", "−")
