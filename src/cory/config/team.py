"""Settings: the team: who speaks, who sees what, who is paid what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TeamConfig:
    """The team: who speaks, who sees what, who is paid what."""

    num_agents: int = 2
    """Agents that answer in turn; 1 is single-agent PPO."""
    role_exchange_period: int | None = 5
    """Iterations between two exchanges of roles. None: never."""
    knowledge_transfer: bool = True
    """Observers see the earlier answers. False: everybody gets the plain query."""
    partner_reward_weight: float = 1.0
    """Weight of the partners' task rewards: 1 shared (the paper), 0 own, negative competitive."""
    reset_on_exchange: bool = False
    """Whenever an exchange is due, forget optimizer, reward statistics and KL coefficients, as the
    paper's reference code does (a control). A single agent forgets at the same iterations."""
