"""Settings beyond the paper; each is off by default and can be used alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig:
    """Averages of weights, and learning from partners' answers."""

    weight_average_decay: float | None = None
    """Each agent's result is the moving average of its weights over iterations, with this decay;
    training goes on with the weights themselves. None: the weights are the result."""
    evaluate_merged: bool = False
    """Evaluate the mean of all agents' weights too, as `merged`; `cory merge` saves it."""
    merge_on_exchange: float = 0.0
    """At every exchange of roles each agent's weights go this share of the way to the team's mean:
    1 makes all agents equal, 0 leaves them alone. Optimizer moments stay."""
    transfer_back_weight: float = 0.0
    """Later speakers' answers that earn more than the pioneer's are learnt by all agents as answers
    to the plain query, with this weight in the loss."""
    transfer_min_lift: float | None = None
    """Knowledge transfer ends at the first exchange of roles since the last of which later
    speakers have not earned more than this above the pioneer, on average; from then on everybody
    answers the plain query. 0: as soon as references stop helping. None: it never ends."""
    partner_samples_weight: float = 0.0
    """Agents also learn from a partner's answers to the plain query, importance-weighted, with this
    weight beside their own answers."""
