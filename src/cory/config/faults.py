"""Settings: what happens when something goes wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FaultConfig:
    """What happens when something goes wrong (docs/how-to/faults.md)."""

    reward_timeout: float | None = None
    """Seconds that a call of a reward function may take; it then runs in a thread of its own. None:
    as long as it likes, in the main thread (which math-verify needs, for its own time limits)."""
    max_reward_failures: int = 0
    """Calls of reward functions that may fail in a run: raise, take too long, or return something
    that is no reward. The answers concerned get the mean of what the others of the call were paid.
    One failure more stops the run."""
    min_entropy: float | None = 0.01
    """Alarm: an agent's entropy per token, in nats, is lower. None: no such alarm."""
    max_kl_per_token: float | None = 2.0
    """Alarm: an agent's KL to the initial model per token, in nats, is higher. None: no alarm."""
    min_unique_share: float | None = 0.1
    """Alarm: a smaller share of an agent's answers are distinct. None: no such alarm."""
    alarm_patience: int | None = None
    """Save and stop when an agent has alarms in this many iterations in a row. None: only warn."""
