"""When an agent counts as collapsed: its held-out measures against those of the initial model.

The ceiling of the KL is that of the alarms in training. The other thresholds are relative to the
initial model, since a task sets the level: on a vocabulary of 16 tokens, few token pairs are
distinct even in healthy answers.
"""

from __future__ import annotations

from collections.abc import Mapping

from cory.training.records import MAX_KL_PER_TOKEN

MIN_DISTINCT_2_SHARE = 0.25
"""Below this share of the initial model's distinct-2, answers repeat each other."""


def has_collapsed(measures: Mapping[str, float], initial: Mapping[str, float]) -> bool:
    """Whether an agent's answers repeat, left the initial model's language, or earn less than it.

    It earns less if its reward is lower by more than its own 95% half-width.

    Args:
        measures: `task_reward`, `task_reward_ci95`, `kl_per_token` and `distinct_2` on held-out
            queries. A value that is nan counts as collapse.
        initial: the same of the initial model.

    >>> start = dict(task_reward=0.3, task_reward_ci95=0.1, kl_per_token=0.0, distinct_2=0.4)
    >>> has_collapsed(start, start), has_collapsed({**start, "distinct_2": 0.09}, start)
    (False, True)
    """
    is_healthy = (
        measures["distinct_2"] >= MIN_DISTINCT_2_SHARE * initial["distinct_2"]
        and measures["kl_per_token"] <= MAX_KL_PER_TOKEN
        and measures["task_reward"] + measures["task_reward_ci95"] >= initial["task_reward"]
    )
    # A comparison with nan is False.
    return not is_healthy
