"""Rows and columns that many tables share."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.results.columns import Difference, Level, Row, Total

TASKS = {
    "arithmetic": "arithmetic",
    "one-habit": "arithmetic, one habit",
    "reviews": "reviews",
    "sparse": "sparse",
    "rare": "rare (.24% right)",
    "rarest": "rarest (.06% right)",
    "second-look": "second look, η 0.02",
    "second-look-eta-0.1": "second look, η 0.1",
    "misled": "misled",
}
IDEAS = {
    "cory-own-reward": "own reward",
    "causal-credit": "causal credit",
    "exact-kl": "exact KL gradient",
    "transfer-back": "transfer back, weight .3",
    "partner-samples": "partner's samples",
    "merge-on-exchange": "merging at exchanges",
    "average-over-time": "average over time, .9",
    "two-observers": "two observer answers",
    "exchange-every-2": "exchange every 2 iterations",
}
LABELS = {
    **IDEAS,
    "team-back-1": "`team`, transfer back 1",
    "team-lift-samples": "`team`, transfer ends",
    "team-no-back": "`team`, no transfer back",
}


def rows(experiment: str, *arms: str, baseline: str = "", agent: str = "mean") -> list[Row]:
    """A row for each arm of an experiment."""
    return [Row(experiment, arm, LABELS.get(arm, ""), agent, baseline) for arm in arms]


def by_task(arm: str, baseline: str, *experiments: str) -> list[Row]:
    """A row for each task: the same arm against the same baseline."""
    return [Row(name, arm, TASKS[name], baseline=baseline) for name in experiments]


def ends(places: int = 2) -> Sequence[Total | Level]:
    """Samples, then reward, KL and hypervolume at the end."""
    return [
        Total("samples"),
        Level("reward"),
        Level("KL"),
        Level("hypervolume", decimals=places),
    ]


def differences(places: int = 2, baseline: str = "") -> Sequence[Difference]:
    """Reward, KL and hypervolume, less the baseline's."""
    return [
        Difference("reward", baseline, title="reward"),
        Difference("KL", baseline, title="KL"),
        Difference("hypervolume", baseline, decimals=places, title="hypervolume"),
    ]


def at_iterations(*steps: int) -> list[Level]:
    """Reward on the way."""
    return [Level("reward", step) for step in steps]


def ahead_at_iterations(*steps: int) -> list[Difference]:
    """Differences in reward on the way."""
    return [Difference("reward", spent=step) for step in steps]
