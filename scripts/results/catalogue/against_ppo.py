"""Tables of teams against PPO: at equal iterations, samples, tokens and seconds."""

from __future__ import annotations

from scripts.results.catalogue.common import (
    by_task,
    differences,
    ends,
    rows,
)
from scripts.results.columns import Compared, Difference, Level, Row, Seeds, Total
from scripts.results.tables import Table

ALL_TASKS = ("arithmetic", "one-habit", "reviews", "sparse", "rare")
REWARDS = [
    Level("reward", arm=arm, title=f"`{arm}`")
    for arm in ("ppo", "ppo-2x", "ppo-2x-ema", "cory", "team")
]
TASK_COLUMNS = [*differences(), Seeds()]
AFTER_SECONDS = [Level("reward", seconds, "seconds") for seconds in (5, 10, 15, 20, 25)]
AHEAD_AFTER_SECONDS = [
    Difference("reward", spent=seconds, cost="seconds") for seconds in (5, 10, 15, 20, 25)
]
TABLES = [
    Table("rewards", "task", by_task("cory", "", *ALL_TASKS, "second-look-eta-0.1"), REWARDS),
    # The paper's team
    Table(
        "paper-team-iterations",
        "task",
        by_task("cory", "ppo", *ALL_TASKS, "second-look-eta-0.1"),
        TASK_COLUMNS,
    ),
    Table(
        "paper-team-samples",
        "task",
        by_task("cory", "ppo-2x-ema", *ALL_TASKS, "second-look", "second-look-eta-0.1"),
        TASK_COLUMNS,
    ),
    Table(
        "paper-team-ppo-2x",
        "task",
        by_task("cory", "ppo-2x", *ALL_TASKS[:4], "second-look", "second-look-eta-0.1"),
        TASK_COLUMNS,
    ),
    # The preset `team`
    Table(
        "team-iterations",
        "task",
        by_task("team", "ppo", *ALL_TASKS[:4], "second-look-eta-0.1"),
        TASK_COLUMNS,
    ),
    Table(
        "team-cory",
        "task",
        by_task("team", "cory", *ALL_TASKS[:4], "second-look", "second-look-eta-0.1"),
        TASK_COLUMNS,
    ),
    Table(
        "team-samples",
        "task",
        [
            *by_task("team", "ppo-2x-ema", *ALL_TASKS[:3]),
            Row("sparse", "team", "sparse, 3 seeds", baseline="ppo-2x-ema"),
            Row("sparse-lift", "team", "sparse, 5 seeds", baseline="ppo-2x-ema"),
            *by_task("team", "ppo-2x-ema", "misled", "second-look", "second-look-eta-0.1"),
        ],
        TASK_COLUMNS,
    ),
    Table(
        "team-ppo-2x",
        "task",
        by_task("team", "ppo-2x", *ALL_TASKS[:4], "misled", "second-look", "second-look-eta-0.1"),
        TASK_COLUMNS,
    ),
    Table(
        "team-costs",
        "task",
        by_task("team", "ppo", *ALL_TASKS[:4]),
        [
            Difference("reward", title="iterations"),
            Difference("reward", cost="samples", title="samples"),
            Difference("reward", cost="tokens", title="tokens"),
        ],
    ),
    Table(
        "team-on-the-way",
        "difference at iteration",
        [
            Row("arithmetic", "team", "`team` − `ppo-2x-ema`", baseline="ppo-2x-ema"),
            Row(
                "arithmetic",
                "team-back-1",
                "`team`, transfer back 1, − `ppo-2x-ema`",
                baseline="ppo-2x-ema",
            ),
        ],
        [Difference("reward", spent=step) for step in (10, 20, 30, 60)],
    ),
    # Everything of one task
    Table(
        "arithmetic",
        "arm",
        rows(
            "arithmetic",
            *("ppo", "ppo-2x", "ppo-2x-ema", "cory", "cory-no-exchange", "team", "team-back-1"),
            "team-lift-samples",
        ),
        ends(3),
    ),
    Table(
        "arithmetic-ppo",
        "arm",
        rows(
            "arithmetic",
            *("ppo-2x", "ppo-2x-ema", "cory", "cory-no-exchange", "team", "team-back-1"),
            "team-lift-samples",
            baseline="ppo",
        ),
        differences(3),
    ),
    Table(
        "arithmetic-ppo-2x-ema",
        "arm",
        rows(
            "arithmetic",
            *("ppo", "ppo-2x", "cory", "cory-no-exchange", "team", "team-back-1"),
            "team-lift-samples",
            baseline="ppo-2x-ema",
        ),
        differences(3),
    ),
    Table(
        "arithmetic-rewards",
        "arm",
        rows(
            "arithmetic",
            *("ppo", "ppo-2x", "ppo-2x-ema", "cory", "cory-no-exchange", "team", "team-back-1"),
            "team-lift-samples",
        ),
        [Difference("reward", "cory"), Difference("reward", "ppo-2x")],
    ),
    Table(
        "reviews",
        "arm",
        rows("reviews", "ppo", "ppo-2x", "ppo-2x-ema", "cory", "team"),
        ends(),
    ),
    Table(
        "reviews-rewards",
        "arm",
        rows("reviews", "ppo", "ppo-2x", "ppo-2x-ema", "cory", "team"),
        [Difference("reward", base) for base in ("ppo", "cory", "ppo-2x", "ppo-2x-ema")],
    ),
    Table(
        "reviews-ppo",
        "arm",
        rows("reviews", "ppo-2x", "ppo-2x-ema", "cory", "team", baseline="ppo"),
        [
            Difference("reward"),
            Difference("KL", decimals=3),
            Difference("hypervolume"),
        ],
    ),
    # PPO's own gains
    Table(
        "ppo-2x-gains",
        "task",
        by_task("ppo-2x", "ppo", *ALL_TASKS[:4], "second-look-eta-0.1"),
        TASK_COLUMNS,
    ),
    Table(
        "ppo-ema-gains",
        "task",
        by_task(
            "ppo-2x-ema",
            "ppo-2x",
            *ALL_TASKS[:4],
            "rarest",
            "misled",
            "second-look",
            "second-look-eta-0.1",
        ),
        TASK_COLUMNS,
    ),
    Table(
        "ppo-both-gains",
        "task",
        by_task("ppo-2x-ema", "ppo", *ALL_TASKS, "second-look-eta-0.1"),
        TASK_COLUMNS,
    ),
    Table(
        "arithmetic-agents",
        "arm",
        rows(
            "arithmetic",
            *("cory", "cory-no-exchange", "team", "team-back-1", "team-lift-samples"),
        ),
        [
            Level("reward", agent="agent_0", title="agent 0"),
            Level("reward", agent="agent_1", title="agent 1"),
        ],
    ),
    # Seconds
    Table(
        "matrix",
        "arm",
        rows("matrix", "ppo", "ppo-2x", "cory", "cory-no-exchange", "team"),
        [
            Total("seconds"),
            Level("reward", agent="agent_0", title="agent 0"),
            Level("reward", agent="agent_1", title="agent 1"),
            Level("KL"),
            Difference("reward", "ppo"),
        ],
    ),
    Table(
        "seconds",
        "task",
        [
            Row("matrix", "team", "arithmetic, idle machine", baseline="ppo"),
            Row("matrix", "team", "arithmetic, idle machine", baseline="ppo-2x"),
            Row("matrix", "cory", "arithmetic, idle machine", baseline="ppo"),
            Row("arithmetic", "team", "arithmetic", baseline="ppo-2x-ema"),
            Row("second-look", "team", "second look, η 0.02", baseline="ppo-2x"),
            Row("second-look", "team-back-1", "second look, η 0.02", baseline="ppo-2x"),
            Row("second-look", "team-back-1", "second look, η 0.02", baseline="ppo-2x-ema"),
            Row("second-look", "team-back-1", "second look, η 0.02", baseline="ppo-4x"),
        ],
        [
            Compared(),
            Difference("reward", cost="seconds"),
            Difference("KL", cost="seconds"),
            Seeds(),
        ],
    ),
    Table(
        "second-look-seconds",
        "reward after seconds",
        rows("second-look", "ppo-2x", "ppo-2x-ema", "ppo-4x", "team", "team-back-1"),
        AFTER_SECONDS,
    ),
    Table(
        "second-look-seconds-ahead",
        "transfer back 1, less … after seconds",
        [
            Row("second-look", "team-back-1", f"`{base}`", baseline=base)
            for base in ("ppo-2x", "ppo-2x-ema", "ppo-4x")
        ],
        AHEAD_AFTER_SECONDS,
    ),
    Table(
        "spent-seconds",
        "arm",
        rows("arithmetic", "ppo", "ppo-2x", "ppo-2x-ema", "cory", "team"),
        [Total("samples"), Total("tokens"), Total("seconds")],
    ),
    Table(
        "loaded-seconds",
        "task",
        [*by_task("ppo", "", *ALL_TASKS[1:]), Row("imdb", "ppo", "IMDB")],
        [Total("seconds", arm) for arm in ("ppo", "ppo-2x", "ppo-2x-ema", "cory", "team")],
    ),
]
