"""Tables of tasks on which an answer in view is worth most, and where reward is rare."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.results.catalogue.common import (
    LABELS,
    ahead_at_iterations,
    at_iterations,
    differences,
    ends,
    rows,
)
from scripts.results.columns import Column, Combined, Difference, Level, Row, Total
from scripts.results.tables import Table

STEPS = (5, 10, 20, 30, 40)
EARLY = (5, 10, 15, 20, 30)
ALL_ARMS = ("ppo", "ppo-2x", "ppo-2x-ema", "ppo-4x", "cory", "team", "team-back-1", "team-no-back")
SPARSE = ("ppo", "ppo-2x", "ppo-2x-ema", "cory", "team", "team-cheap", "team-apart")
RAREST = ("ppo", "ppo-2x", "ppo-2x-ema", "team-lift", "team-lift-samples")
LIFT = {"team-lift": "`team-lift`", "team-lift-samples": "`team-lift-samples`"}


def less(experiment: str, *pairs: tuple[str, str]) -> list[Row]:
    """A row for each pair of arm and baseline."""
    return [
        Row(
            experiment,
            arm,
            f"{LIFT.get(arm) or LABELS.get(arm, f'`{arm}`')} − `{baseline}`",
            baseline=baseline,
        )
        for arm, baseline in pairs
    ]


def lift_rows(experiment: str, *arms: str, baseline: str = "") -> list[Row]:
    """Rows of arms that go by their own names here."""
    return [Row(experiment, arm, f"`{arm}`", baseline=baseline) for arm in arms]


ENDS: Sequence[Column] = ends()
TABLES = [
    # Second look at the smaller penalty
    Table(
        "second-look",
        "arm",
        rows("second-look", "ppo-2x", "ppo-2x-ema", "team", "team-back-1", "cory", "ppo-4x"),
        [*ENDS, Total("seconds")],
    ),
    Table(
        "second-look-path",
        "reward at iteration",
        rows("second-look", "ppo-2x", "ppo-2x-ema", "cory", "ppo-4x", "team", "team-back-1"),
        at_iterations(*STEPS),
    ),
    Table(
        "second-look-ahead",
        "difference at iteration",
        less(
            "second-look",
            ("team", "ppo-2x"),
            ("team", "ppo-2x-ema"),
            ("team-back-1", "ppo-2x"),
            ("team-back-1", "ppo-2x-ema"),
            ("team-back-1", "ppo-4x"),
        ),
        ahead_at_iterations(*STEPS),
    ),
    Table(
        "second-look-ppo-2x",
        "arm",
        rows("second-look", "ppo-2x-ema", "team", "team-back-1", "cory", baseline="ppo-2x"),
        differences(),
    ),
    Table(
        "second-look-ppo-2x-ema",
        "arm",
        rows("second-look", "ppo-2x", "team", "team-back-1", "cory", baseline="ppo-2x-ema"),
        differences(),
    ),
    Table(
        "second-look-ppo-4x",
        "arm",
        rows("second-look", "team", "team-back-1", baseline="ppo-4x"),
        differences(),
    ),
    # The same at the task's own penalty
    Table(
        "penalty",
        "arm",
        rows("second-look-eta-0.1", *ALL_ARMS),
        [*ENDS, Combined(0.1)],
    ),
    Table(
        "penalty-rewards",
        "arm",
        rows("second-look-eta-0.1", *ALL_ARMS),
        [Difference("reward", base) for base in ("ppo", "ppo-2x", "ppo-2x-ema", "ppo-4x")],
    ),
    Table(
        "penalty-hypervolume",
        "arm",
        rows("second-look-eta-0.1", *ALL_ARMS),
        [Difference("hypervolume", base) for base in ("ppo", "ppo-2x")],
    ),
    # Less rare
    Table(
        "misled",
        "arm",
        rows("misled", "ppo-2x", "ppo-2x-ema", "team", "team-back-1"),
        ENDS,
    ),
    Table(
        "misled-path",
        "reward at iteration",
        rows("misled", "ppo-2x", "ppo-2x-ema", "team", "team-back-1"),
        at_iterations(*EARLY),
    ),
    Table(
        "misled-ahead",
        "difference at iteration",
        less("misled", ("team-back-1", "ppo-2x"), ("team-back-1", "ppo-2x-ema")),
        ahead_at_iterations(*EARLY),
    ),
    Table(
        "misled-rewards",
        "arm",
        rows("misled", "ppo-2x-ema", "team", "team-back-1"),
        [Difference("reward", "ppo-2x"), Difference("reward", "ppo-2x-ema")],
    ),
    # Rare reward
    Table("sparse", "arm", lift_rows("sparse", *SPARSE), ENDS),
    Table(
        "sparse-ppo",
        "arm",
        lift_rows("sparse", *SPARSE[1:], baseline="ppo"),
        [Difference("reward"), Difference("KL", decimals=3), Difference("hypervolume")],
    ),
    Table(
        "sparse-rewards",
        "arm",
        lift_rows("sparse", *SPARSE),
        [Difference("reward", base) for base in ("cory", "ppo-2x", "ppo-2x-ema")],
    ),
    Table(
        "sparse-merged",
        "model",
        [
            Row("sparse", "team-apart", "`team-apart`, each agent"),
            Row("sparse", "team-apart", "`team-apart`, merged at the end", "merged"),
        ],
        [Level("reward"), Level("KL"), Level("hypervolume")],
    ),
    Table(
        "sparse-lift",
        "arm",
        lift_rows("sparse-lift", "ppo-2x-ema", "team", "team-lift-samples"),
        ENDS,
    ),
    Table(
        "lift-team",
        "task",
        [
            Row("arithmetic", "team-lift-samples", "arithmetic", baseline="team"),
            Row("one-habit-ideas", "team-lift-samples", "arithmetic, one habit", baseline="team"),
            Row("sparse-lift", "team-lift-samples", "sparse", baseline="team"),
        ],
        differences(3),
    ),
    Table(
        "lift-ppo",
        "task",
        [
            Row("arithmetic", "team-lift-samples", "arithmetic", baseline="ppo-2x-ema"),
            Row(
                "one-habit-ideas",
                "team-lift-samples",
                "arithmetic, one habit",
                baseline="ppo-2x-ema",
            ),
            Row("sparse-lift", "team-lift-samples", "sparse", baseline="ppo-2x-ema"),
            Row("sparse-lift", "team", "sparse, `team` itself", baseline="ppo-2x-ema"),
        ],
        differences(3),
    ),
    # Rarer still
    Table(
        "rare",
        "arm",
        lift_rows("rare", "ppo", "ppo-2x-ema", "cory", *LIFT),
        ENDS,
    ),
    Table(
        "rare-rewards",
        "arm",
        lift_rows("rare", "ppo", "ppo-2x-ema", "cory", *LIFT),
        [Difference("reward", "ppo"), Difference("reward", "ppo-2x-ema")],
    ),
    Table("rarest", "arm", lift_rows("rarest", *RAREST), ENDS),
    Table(
        "rarest-rewards",
        "arm",
        lift_rows("rarest", *RAREST),
        [
            Difference("reward", "ppo-2x"),
            Difference("reward", "ppo-2x-ema"),
            Difference("KL", "ppo-2x-ema"),
        ],
    ),
    Table(
        "rare-ahead",
        "difference at iteration",
        less("rare", ("team-lift", "ppo-2x-ema"), ("team-lift-samples", "ppo-2x-ema")),
        ahead_at_iterations(*EARLY),
    ),
    Table(
        "rarest-ahead",
        "difference at iteration",
        less(
            "rarest",
            ("team-lift", "ppo-2x-ema"),
            ("team-lift-samples", "ppo-2x-ema"),
            ("team-lift", "ppo-2x"),
            ("team-lift-samples", "ppo-2x"),
            ("ppo-2x", "ppo-2x-ema"),
        ),
        ahead_at_iterations(*EARLY),
    ),
]
