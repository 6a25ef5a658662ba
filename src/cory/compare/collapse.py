"""When an agent counts as collapsed: thresholds against the initial model, in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CollapseRule:
    """An agent has collapsed if any of its held-out measures crosses its threshold.

    Two are relative to the initial model on the same queries: a vocabulary of 16 signs has few
    distinct pairs even where nothing is wrong.
    """

    distinct_2_share: float = 0.25
    """Below this share of the initial model's distinct-2, answers repeat each other."""
    kl_per_token: float = 2.0
    """Above this, in nats, tokens are on average e² times likelier than the initial model finds
    them: whatever the reward says, the language is another one."""
    reward_margin: float = 1.0
    """Reward more than this many of its own 95% half-widths below the initial model's."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise ValueError(f"collapse: {name}={value!r} must be a number of at least 0")

    def holds(self, measures: Mapping[str, float], initial: Mapping[str, float]) -> bool:
        """Whether an agent with these held-out measures has collapsed.

        Args:
            measures: `task_reward`, `task_reward_ci95`, `kl_per_token` and `distinct_2`; one that
                is not a number counts as collapse.
            initial: the same of the initial model.

        >>> start = dict(task_reward=0.3, task_reward_ci95=0.1, kl_per_token=0.0, distinct_2=0.4)
        >>> rule, repeating = CollapseRule(), {**start, "distinct_2": 0.09}
        >>> rule.holds(start, start), rule.holds(repeating, start)
        (False, True)
        """
        values = np.array(
            [
                measures["distinct_2"] - self.distinct_2_share * initial["distinct_2"],
                self.kl_per_token - measures["kl_per_token"],
                measures["task_reward"]
                + self.reward_margin * measures["task_reward_ci95"]
                - initial["task_reward"],
            ]
        )
        # A comparison with nan is False, so it is not on the good side.
        return not bool((values >= 0).all())
