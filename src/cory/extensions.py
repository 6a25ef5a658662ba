"""Settings beyond the paper; each is off by default and can be used alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig:
    """Averages of weights; all off by default."""

    weight_average_decay: float | None = None
    """Each agent's result is the moving average of its weights over iterations, with this decay;
    training goes on with the weights themselves. None: the weights are the result."""
    evaluate_merged: bool = False
    """Evaluate the mean of all agents' weights too, as `merged`; `cory merge` saves it."""
    merge_on_exchange: float = 0.0
    """At every exchange of roles each agent's weights go this share of the way to the team's mean:
    1 makes all agents equal, 0 leaves them alone. Optimizer moments stay."""
