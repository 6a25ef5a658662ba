"""Settings: what happens when something goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cory.config.fields import NON_NEGATIVE, POSITIVE, setting


@dataclass(frozen=True, kw_only=True)
class FaultConfig:
    """What happens when something goes wrong."""

    reward_timeout: float | None = setting(None, POSITIVE, resume_may_change=True)
    """Maximum number of seconds for one call of a reward function, which then runs in its own
    thread. None: no limit; the function runs in the main thread, as math-verify needs for its own
    time limits."""
    max_reward_failures: int = setting(0, NON_NEGATIVE, resume_may_change=True)
    """Number of calls of reward functions that may fail in a run: an exception, a timeout, or a
    result that is not a reward. An answer without a reward gets the mean of the other answers of
    the call. One more failure stops the run."""
    collapse_alarms: Literal["off", "warn", "stop"] = setting("warn", affects_result=False)
    """What to do when an agent shows a sign of collapse: entropy below 0.01 nats per token, KL to
    the initial model above 2 nats per token, or less than 10% distinct answers. warn: print a
    warning. stop: also save and end the run after 5 such iterations in a row."""
