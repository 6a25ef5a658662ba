"""Tables of everything else: two policies averaged, real text, number formats, collapse."""

from __future__ import annotations

from scripts.results.catalogue.common import rows
from scripts.results.columns import (
    AtKL,
    ByQueries,
    CollapsedAt,
    Combined,
    Difference,
    Level,
    Row,
    Total,
)
from scripts.results.experiments import POCKET, ROOT
from scripts.results.tables import Copied, Table

IMDB = ("ppo", "ppo-2x", "cory", "team")
APART = [
    Row("apart", "ppo-2x-ema", baseline="ppo-2x-ema"),
    *(
        Row("apart", f"{kind}-apart", f"`{kind}-apart`, {label}", agent, baseline="ppo-2x-ema")
        for kind in ("team", "pair")
        for agent, label in (("mean", "each agent"), ("merged", "merged"))
    ),
]
BY_AGENT = [
    *rows("imdb", "ppo", "ppo-2x"),
    *(
        Row("imdb", arm, f"`{arm}`, {agent.replace('_', ' ')}", agent)
        for arm in ("cory", "team")
        for agent in ("agent_0", "agent_1")
    ),
]
BFLOAT16 = ("cory-bf16", "cory-bf16-recomputed")
BFLOAT16_STEPS = (4, 8, 12, 16)
TABLES = [
    Table("apart", "model", APART, [Level("reward"), Level("KL"), Level("hypervolume")]),
    Table(
        "apart-differences",
        "model",
        APART[1:],
        [Difference("reward"), Difference("KL"), Difference("hypervolume")],
    ),
    Table(
        "imdb",
        "arm",
        rows("imdb", *IMDB),
        [
            Total("samples"),
            ByQueries("reward", 2),
            ByQueries("KL", 1),
            Combined(0.3, 1),
            Level("hypervolume", decimals=1),
        ],
    ),
    Table(
        "imdb-collapse",
        "arm",
        rows("imdb", *IMDB),
        [Level("distinct-2"), CollapsedAt()],
    ),
    Table(
        "imdb-reward",
        "reward at iteration",
        BY_AGENT,
        [Level("reward", step, decimals=2) for step in (20, 50, 80, 100)],
    ),
    Table(
        "imdb-kl",
        "KL at iteration",
        BY_AGENT,
        [Level("KL", step, decimals=1) for step in (20, 50, 80, 100)],
    ),
    Table("imdb-at-kl", "reward at KL", rows("imdb", *IMDB), [AtKL(kl) for kl in (5, 10, 20, 30)]),
    Table(
        "gsm8k",
        "arm",
        [
            Row("gsm8k", "ppo"),
            *(Row("gsm8k", "cory", f"`cory`, agent {n}", f"agent_{n}") for n in (0, 1)),
        ],
        [
            Total("samples"),
            Level("reward", 0, title="pass@1 before", decimals=4),
            Level("reward", title="after 10 iterations", decimals=4),
            Level("KL"),
            Total("seconds"),
        ],
    ),
    Table(
        "bfloat16",
        "reward at iteration",
        rows("bfloat16", "cory", *BFLOAT16),
        [Level("reward", step) for step in BFLOAT16_STEPS],
    ),
    Table(
        "bfloat16-differences",
        "difference at iteration",
        [
            *(Row("bfloat16", arm, f"`{arm}` − `cory`", baseline="cory") for arm in BFLOAT16),
            Row("bfloat16", BFLOAT16[1], "recomputed − not", baseline=BFLOAT16[0]),
        ],
        [Difference("reward", spent=step) for step in BFLOAT16_STEPS],
    ),
    Table(
        "bfloat16-kl",
        "KL, difference at iteration",
        [Row("bfloat16", arm, f"`{arm}` − `cory`", baseline="cory") for arm in BFLOAT16],
        [Difference("KL", spent=step) for step in BFLOAT16_STEPS],
    ),
    Copied(
        "collapse",
        ROOT / POCKET / "collapse/results.csv",
        {
            "learning_rate": "learning rate",
            "seed": "seed",
            "reward": "reward",
            "kl": "KL",
            "distinct_2": "distinct-2",
            "unique_share": "unique answers",
        },
    ),
    Copied(
        "collapse-entropy",
        ROOT / POCKET / "collapse/results.csv",
        {
            "learning_rate": "learning rate",
            "seed": "seed",
            "entropy": "entropy",
            "ref_perplexity": "perplexity under the initial model",
        },
    ),
]
