"""What a report shows of an evaluation, and how its numbers and settings are written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cory.io.urls import without_password

LARGE = 1e5
"""From here on, numbers are written with an exponent."""

SHARE = (-0.04, 1.04)
"""An axis from none to all."""
PART, POSITIVE = (0.0, 1.0), (0.0, math.inf)
"""What is possible for a share, and for what is never negative."""


@dataclass(frozen=True)
class Measure:
    """A metric, its label on an axis, its short title in a table, and how its value is written.

    `interval` is the metric that holds half its 95% interval over queries, `limits` are those of an
    axis, where the values of every run shall be seen on the same one. `possible` are the least and
    the greatest value that there can be.
    """

    key: str
    label: str
    title: str
    form: str = "{:z.3f}"
    interval: str | None = None
    limits: tuple[float, float] | None = None
    possible: tuple[float, float] = (-math.inf, math.inf)

    def write(self, value: float | None, half_width: float | None = None) -> str:
        """A value, with ± half its interval where that is known.

        >>> KL.write(3.54621, 0.1), KL.write(None)
        ('3.546 ± 0.100', '–')
        """
        if value is None:
            return "–"
        # A collapsed policy may have a perplexity of millions.
        form = "{:.1e}" if abs(value) >= LARGE else self.form
        text = form.format(value)
        if half_width is not None and not math.isnan(half_width):
            text += f" ± {form.format(half_width)}"
        return text.replace("-", "−")


REWARD = Measure("task_reward", "task reward per answer", "reward", interval="task_reward_ci95")
KL = Measure(
    "kl", "KL to the initial model (nats)", "KL (nats)", interval="kl_ci95", possible=POSITIVE
)
DISTINCT = Measure("distinct_2", "distinct-2 (share of token pairs)", "distinct-2", possible=PART)
UNIQUE = Measure(
    "unique_share", "share of distinct answers", "unique", "{:z.1%}", limits=SHARE, possible=PART
)
ENTROPY = Measure("entropy", "entropy per token (nats)", "entropy", possible=POSITIVE)
PERPLEXITY = Measure(
    "ref_perplexity",
    "perplexity to the initial model",
    "perplexity",
    "{:z.2f}",
    possible=(1.0, math.inf),
)
LENGTH = Measure("completion_length", "tokens per answer", "tokens", "{:z.1f}", possible=POSITIVE)
COPY_RATE = Measure("copy_rate", "copied share of an observer's words", "copied", possible=PART)
LIFT = Measure("lift", "observer's reward − pioneer's", "lift")
ALIVE = Measure(
    "alive", "share of runs not collapsed", "not collapsed", limits=SHARE, possible=PART
)
HYPERVOLUME = Measure(
    "hypervolume", "hypervolume of the frontier", "hypervolume", possible=POSITIVE
)

TRAINING = (REWARD, KL, DISTINCT, ENTROPY)
"""Drawn over the iterations of a training."""
HELD_OUT = (REWARD, KL, DISTINCT, UNIQUE, ENTROPY, PERPLEXITY)
"""Drawn over the evaluations."""
TRANSFER = (COPY_RATE, LIFT)
TABLE = (
    REWARD,
    *(Measure(f"pass@{k}", f"pass@{k}", f"pass@{k}") for k in range(2, 6)),
    KL,
    DISTINCT,
    UNIQUE,
    ENTROPY,
    PERPLEXITY,
    LENGTH,
)
"""Columns of a table of results. pass@1 is the reward itself."""


def reward_measure(key: str) -> Measure:
    """That of `task_reward`, or of a single reward function, by the name of its metric.

    >>> reward_measure("task_reward") is REWARD, reward_measure("reward/brief").title
    (True, 'brief')
    """
    name = key.removeprefix("reward/")
    return REWARD if key == REWARD.key else Measure(key, f"{name} per answer", name)


def measured_columns(rows: Sequence[Mapping[str, Any]]) -> list[Measure]:
    """The measures that at least one row has."""
    return [measure for measure in TABLE if any(row.get(measure.key) is not None for row in rows)]


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(7.3), duration(754), duration(9000)
    ('7 s', '12 min 34 s', '2 h 30 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def setting(value: Any) -> str:
    """The value of a setting as a YAML file holds it.

    >>> setting(None), setting(0.00002), setting([1, 2]), setting(True)
    ('null', '2e-05', '[1, 2]', 'true')
    """
    # YAML knows dates and bytes, and lets any of its values be a key.
    if isinstance(value, dict):
        value = {str(key): setting(item) for key, item in value.items()}
    if isinstance(value, str):
        return without_password(value)
    return json.dumps(value, ensure_ascii=False, default=str)
