"""Whether later speakers still see the earlier answers, for as long as that makes theirs better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cory.team.metrics import mean_of, paid_mean
from cory.team.types import RolloutRecord


@dataclass
class KnowledgeTransfer:
    """References are shown until they stop paying, which is judged at exchanges of roles.

    Over the iterations since the last exchange, with r̄_1 the pioneer's mean task reward and r̄_i
    that of a later speaker i, both of the answers that were paid,

        lift = mean over iterations and later speakers of r̄_i − r̄_1

    At the first exchange with lift ≤ `min_lift` transfer ends for good: from then on everybody
    answers the plain query, and nothing is left by which the lift could be measured. A team of one
    has nobody to show anything to.
    """

    is_on: bool
    min_lift: float | None = None
    """None: transfer never ends."""
    lifts: list[float] = field(default_factory=list)
    """Of the iterations since the last exchange."""

    def follow(self, records: Sequence[RolloutRecord]) -> None:
        """Take note of what an iteration's speakers, in their order, have earned."""
        pioneer, *later = records
        if self.is_on and self.min_lift is not None and later:
            earned = mean_of(paid_mean(record.task_reward) for record in later)
            lift = earned - paid_mean(pioneer.task_reward)
            # An iteration in which a whole speaker was declined says nothing.
            self.lifts += [] if math.isnan(lift) else [lift]

    def review(self) -> None:
        """Decide at an exchange of roles whether to go on."""
        if self.lifts and self.min_lift is not None:
            self.is_on = mean_of(self.lifts) > self.min_lift
        self.lifts.clear()

    def state_dict(self) -> dict[str, Any]:
        """JSON values that `load_state_dict` takes."""
        return {"is_on": self.is_on, "lifts": list(self.lifts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.is_on, self.lifts = state["is_on"], list(state["lifts"])
