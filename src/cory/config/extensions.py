"""Settings beyond the paper. Each is off by default and can be used alone."""

from __future__ import annotations

from dataclasses import dataclass

from cory.config.fields import FRACTION, NON_NEGATIVE, setting


@dataclass(frozen=True, kw_only=True)
class ExtensionConfig:
    """Beyond the paper: averages of weights, and learning from partners' answers."""

    weight_average_decay: float | None = setting(None, FRACTION, arm_may_change=True)
    """Decay of a moving average (EMA) of each agent's weights over iterations. The average is the
    result of the run; training continues with the weights themselves. None: no average, the
    weights are the result."""
    evaluate_merged: bool = setting(False, arm_may_change=True, resume_may_change=True)
    """Also evaluate the mean of all agents' weights, as `merged`. `cory merge` saves that mean."""
    merge_on_exchange: float = setting(0.0, FRACTION, arm_may_change=True)
    """At every exchange of roles, interpolate each agent's weights to the team's mean by this
    share. 0: no change, 1: all agents become equal. Optimizer moments stay."""
    transfer_back_weight: float = setting(0.0, NON_NEGATIVE, arm_may_change=True)
    """Weight of transfer back in the loss: all agents learn observers' answers that earn more than
    the pioneer's, as answers to the plain query."""
    transfer_min_lift: float | None = setting(None, arm_may_change=True)
    """End knowledge transfer at an exchange of roles if, since the previous exchange, observers
    earned on average at most this much more than the pioneer. Afterwards every agent gets the
    plain query. 0: end it when references no longer help. None: it never ends."""
    partner_samples_weight: float = setting(0.0, NON_NEGATIVE, arm_may_change=True)
    """Weight in the loss of a partner's answers to the plain query, which each agent learns from
    beside its own. They are importance-weighted."""
