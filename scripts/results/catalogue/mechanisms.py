"""Tables of what each mechanism does, alone and left out."""

from __future__ import annotations

from scripts.results.catalogue.common import IDEAS, TASKS, differences, ends, rows
from scripts.results.columns import Compared, Difference, Level, Row, Seeds, Total
from scripts.results.experiments import POCKET, ROOT
from scripts.results.tables import Copied, Table

ONE_HABIT = ("ppo", "ppo-2x", "ppo-2x-ema", "cory", "cory-no-exchange", "team")
DELETED = {"causal-credit": "causal credit", "two-observers": "two observer answers"}
IDEA_TASKS = {
    "arithmetic-ideas": "arithmetic",
    "one-habit-ideas": "arithmetic, one habit",
    "reviews-ideas": "reviews",
}
BY_AGENT = [
    Level("reward", agent="agent_0", title="agent 0"),
    Level("reward", agent="agent_1", title="agent 1"),
]
TO_PPO = [Difference("reward", "ppo"), Difference("KL", "ppo")]
TO_BOTH = [Difference("reward", "ppo"), Difference("reward", "ppo-2x-ema")]
SCREENED = (
    *("ppo", "ppo-2x", "ppo-2x-ema", "cory", *IDEAS),
    *("own-back-merge", "own-samples-back-merge", "team-back-0.3", "team-back-1"),
    *("team-every-2", "team-every-1", "team-exact-kl"),
)
TABLES = [
    Table(
        "ideas-arithmetic",
        "on top of `cory`",
        rows("arithmetic-ideas", *IDEAS, "team", "ppo", "ppo-2x-ema", baseline="cory"),
        differences(3),
    ),
    Table(
        "ideas-arithmetic-levels",
        "arm",
        rows("arithmetic-ideas", "ppo", "ppo-2x-ema", "cory", *IDEAS, "team"),
        [Total("samples"), Level("reward"), *BY_AGENT, Level("KL")],
    ),
    Table(
        "ideas-arithmetic-ppo",
        "arm",
        rows("arithmetic-ideas", "ppo", "ppo-2x-ema", "cory", *IDEAS, "team"),
        TO_BOTH,
    ),
    Table(
        "ideas-reviews",
        "on top of `cory`",
        rows("reviews-ideas", *IDEAS, "ppo", baseline="cory"),
        differences(),
    ),
    Table(
        "ideas-reviews-levels",
        "arm",
        rows("reviews-ideas", "ppo", "cory", *IDEAS),
        ends(),
    ),
    Table("ideas-reviews-ppo", "arm", rows("reviews-ideas", "cory", *IDEAS), TO_PPO),
    Table(
        "ideas-one-habit",
        "on top of `cory`",
        rows(
            "one-habit-ideas",
            *IDEAS,
            *("team", "team-lift-samples", "ppo", "ppo-2x-ema"),
            baseline="cory",
        ),
        differences(3),
    ),
    Table(
        "ideas-one-habit-levels",
        "arm",
        rows("one-habit-ideas", "ppo", "ppo-2x-ema", "cory", *IDEAS, "team", "team-lift-samples"),
        [Total("samples"), Level("reward"), Level("KL"), *TO_BOTH],
    ),
    Table(
        "ideas-rare",
        "arm",
        rows("sparse-ideas", *SCREENED),
        [
            Level("reward", 15, title="reward at 15"),
            Level("reward", 30, title="at 30"),
            Level("reward", 60, title="at 60"),
            Level("KL", 15, title="KL at 15"),
            Level("KL", 60, title="at 60"),
        ],
    ),
    Table(
        "deleted",
        "mechanism, task",
        [
            Row(experiment, arm, f"{name}, {task}", baseline="cory")
            for arm, name in DELETED.items()
            for experiment, task in IDEA_TASKS.items()
        ],
        [*differences(3), Seeds()],
    ),
    Table(
        "deleted-rare",
        "arm",
        rows("sparse-ideas", "cory", *DELETED),
        [
            Level("reward", 15, title="reward at 15"),
            Level("reward", 30, title="at 30"),
            Level("reward", 60, title="at 60"),
            Level("KL", 60, title="KL at 60"),
        ],
    ),
    Table(
        "back",
        "task",
        [
            Row(name, "team-back-1", TASKS[name], baseline="team")
            for name in ("arithmetic", "misled", "second-look", "second-look-eta-0.1")
        ],
        [*differences(), Seeds()],
    ),
    Table(
        "back-none",
        "arm",
        rows("second-look-eta-0.1", "team-no-back", "team", "team-back-1"),
        [Level("reward"), Level("KL"), Difference("reward", "ppo")],
    ),
    Table(
        "back-reviews",
        "arm",
        [
            *rows("reviews-back", "team-no-back"),
            Row("reviews-back", "team", "`team` (weight .1)"),
            Row("reviews-back", "team-back-0.3", "`team`, transfer back .3"),
            *rows("reviews-back", "team-back-1"),
        ],
        [
            Level("reward", 20, title="reward at 20", decimals=2),
            Level("KL", 20, title="KL at 20"),
            Level("reward", 40, title="reward at 40", decimals=2),
            Level("KL", 40, title="KL at 40"),
        ],
    ),
    Table(
        "exchange",
        "arm",
        rows("arithmetic", "ppo", "cory-no-exchange", "cory", "team"),
        [Level("reward"), *BY_AGENT, Level("KL")],
    ),
    Table(
        "exchange-one-habit",
        "arm",
        rows("one-habit", "ppo", "cory-no-exchange", "cory", "team"),
        [Level("reward"), *BY_AGENT, Level("KL")],
    ),
    Table(
        "exchange-differences",
        "task",
        [
            Row("arithmetic", "cory-no-exchange", "arithmetic", baseline="cory"),
            Row("one-habit", "cory-no-exchange", "arithmetic, one habit", baseline="cory"),
            Row("arithmetic", "cory-no-exchange", "arithmetic", baseline="ppo"),
            Row("one-habit", "cory-no-exchange", "arithmetic, one habit", baseline="ppo"),
        ],
        [Compared(), Difference("reward"), Difference("KL"), Seeds()],
    ),
    Table("one-habit", "arm", rows("one-habit", *ONE_HABIT), ends(3)),
    Table(
        "one-habit-rewards",
        "arm",
        rows("one-habit", *ONE_HABIT),
        [Difference("reward", base) for base in ("ppo", "cory", "ppo-2x", "ppo-2x-ema")],
    ),
    Table(
        "one-habit-ppo",
        "arm",
        rows("one-habit", *ONE_HABIT[1:], baseline="ppo"),
        [
            Difference("KL", decimals=3),
            Difference("hypervolume", decimals=3),
            Difference("reward", cost="samples", title="reward, equal samples"),
            Difference("reward", cost="tokens", title="reward, equal tokens"),
        ],
    ),
    Copied(
        "reference-value",
        ROOT / POCKET / "reference-value/results.csv",
        {
            "task": "task",
            "run": "run",
            "observer_beside_wrong": "observer, it wrong",
            "second_try_beside_wrong": "second try, it wrong",
            "observer_beside_right": "observer, it right",
            "second_try_beside_right": "second try, it right",
        },
    ),
    Copied(
        "reference-value-levels",
        ROOT / POCKET / "reference-value/results.csv",
        {
            "task": "task",
            "run": "run",
            "agent_0": "agent 0",
            "observer": "observer",
            "second_try": "second try",
        },
    ),
    Copied(
        "reference-value-two-habits",
        ROOT / POCKET / "reference-value-two-habits/results.csv",
        {
            "run": "run",
            "seed": "seed",
            "observer_beside_wrong": "observer, it wrong",
            "second_try_beside_wrong": "second try, it wrong",
        },
    ),
]
