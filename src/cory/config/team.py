"""Settings: the team's order of speaking, knowledge transfer and shared reward."""

from __future__ import annotations

from dataclasses import dataclass

from cory.config.fields import POSITIVE, setting


@dataclass(frozen=True, kw_only=True)
class TeamConfig:
    """The team: how many agents, who sees which answers, who is paid for what."""

    num_agents: int = setting(2, POSITIVE, arm_may_change=True)
    """Number of agents, which answer one after the other. 1: single-agent PPO."""
    role_exchange_period: int | None = setting(5, POSITIVE, arm_may_change=True)
    """Iterations between two exchanges of roles. None: never."""
    knowledge_transfer: bool = setting(True, arm_may_change=True)
    """Observers see the earlier answers. False: every agent gets the plain query."""
    partner_reward_weight: float = setting(1.0, arm_may_change=True)
    """λ, the weight of the partners' task rewards in the team reward. 1: shared equally (the
    paper), 0: each agent earns its own reward only, negative: agents compete."""
    reset_on_exchange: bool = setting(False, arm_may_change=True)
    """Reset optimizer state, reward statistics and KL coefficients whenever an exchange is due, as
    the paper's reference code does. A control: a single agent is reset at the same iterations."""
