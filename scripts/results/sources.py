"""Every experiment whose evaluations are stored."""

from __future__ import annotations

from scripts.results.experiments import POCKET, Experiment

PRETRAIN = "python -m scripts.pocket.pretrain {} --output_dir runs/models"
IDEAS = (
    "\\\ncory-own-reward,causal-credit,exact-kl,transfer-back,partner-samples,"
    "\\\nmerge-on-exchange,average-over-time,two-observers,exchange-every-2"
)
"""Broken between arms; a shell joins the lines, since the next ones are not indented."""
ARITHMETIC = "60 iterations, batch 256 a role, η 0.1"
HALF_BATCH = "60 iterations, batch 128 a role, η 0.1"
ONE_HABIT = (
    "pocket-arithmetic with the model that it had before 2026-11-26 (right on .249 of the queries)"
)
ONE_HABIT_AGAIN = f"""\
# makes a model like it, not the same bytes: right on .250; give it by --model_name_or_path
{PRETRAIN.format("arithmetic-one-habit")}"""


def compare(config: str, arms: str, *options: str) -> list[str]:
    """The parts of a command, one a line."""
    return [f"cory compare --config experiments/{config}.yaml", f"--arms {arms}", *options]


ALL = (
    Experiment(
        "arithmetic",
        "pocket-arithmetic (the model is right on .23 of the queries)",
        ARITHMETIC,
        compare(
            "pocket/arithmetic",
            "ppo,ppo-2x,ppo-2x-ema,cory,cory-no-exchange,team,team-back-1,team-lift-samples",
            "--output_dir runs/arithmetic",
        ),
        "commits `d009ed2` and `e24aabb`, which train alike",
        f"{POCKET}/arithmetic",
    ),
    Experiment(
        "arithmetic-ideas",
        "pocket-arithmetic (the model is right on .23 of the queries)",
        ARITHMETIC,
        compare(
            "pocket/arithmetic",
            f"ppo,ppo-2x-ema,cory,team,{IDEAS}",
            "--output_dir runs/arithmetic",
        ),
        "commit `e24aabb`; the first four arms are the runs of the experiment `arithmetic`",
        f"{POCKET}/arithmetic-ideas",
    ),
    Experiment(
        "matrix",
        "pocket-arithmetic (the model is right on .23 of the queries)",
        ARITHMETIC,
        ["cory compare --preset pocket --output_dir runs/pocket"],
        "commit `0c33e07`, with nothing beside it on the machine",
        f"{POCKET}/matrix",
    ),
    Experiment(
        "one-habit",
        ONE_HABIT,
        ARITHMETIC,
        compare(
            "pocket/arithmetic",
            "ppo,ppo-2x,ppo-2x-ema,cory,cory-no-exchange,team",
            "--output_dir runs/arithmetic",
        ),
        "commit `070b65e`; seeds 3 and 4 at `c6ea3fb`, which trains alike",
        f"{POCKET}/one-habit",
        before=ONE_HABIT_AGAIN,
    ),
    Experiment(
        "one-habit-ideas",
        ONE_HABIT,
        ARITHMETIC,
        compare(
            "pocket/arithmetic",
            f"cory,ppo,ppo-2x-ema,team,team-lift-samples,{IDEAS}",
            "--output_dir runs/arithmetic",
        ),
        "commit `03cd60f`; `ppo`, `cory`, `team` of seeds 0 to 2 at `78e25b7`, which trains alike",
        f"{POCKET}/one-habit-ideas",
        before=ONE_HABIT_AGAIN,
    ),
    Experiment(
        "reviews",
        "pocket-reviews (graded reward; the initial model earns −.33)",
        "40 iterations, batch 128 a role, η 0.1",
        compare("pocket/reviews", "ppo,ppo-2x,ppo-2x-ema,cory,team", "--output_dir runs/reviews"),
        "commit `19f5293`, after the repair of the reward statistics",
        f"{POCKET}/reviews",
    ),
    Experiment(
        "reviews-ideas",
        "pocket-reviews (graded reward; the initial model earns −.33)",
        "40 iterations, batch 128 a role, η 0.1",
        compare("pocket/reviews", f"ppo,cory,{IDEAS}", "--output_dir runs/reviews"),
        "commits `f3a8bc0` and `b917376`, which train alike; seeds 3 and 4 at `af63fbf`",
        f"{POCKET}/reviews-ideas",
    ),
    Experiment(
        "reviews-back",
        "pocket-reviews (graded reward; the initial model earns −.33)",
        "40 iterations, batch 128 a role, η 0.1",
        compare(
            "pocket/reviews",
            "team-no-back,team,team-back-0.3,team-back-1",
            "--seeds 0",
            "--output_dir runs/reviews",
        ),
        "of 2026-11-22; the file holds the figures as the log printed them, the runs were not kept",
        f"{POCKET}/reviews-back",
    ),
    Experiment(
        "apart",
        "pocket-reviews (graded reward; the initial model earns −.33)",
        "40 iterations, batch 128 a role, η 0.1",
        compare(
            "pocket/reviews",
            "ppo-2x-ema,team-apart,pair-apart",
            "--eval_steps 4",
            "--output_dir runs/apart",
        ),
        "commit `03cd60f`",
        f"{POCKET}/apart",
    ),
    Experiment(
        "sparse",
        "pocket-arithmetic from the sparse model (right on .057 of the queries)",
        HALF_BATCH,
        compare(
            "pocket/sparse",
            "ppo,ppo-2x,ppo-2x-ema,cory,team,team-cheap,team-apart",
            "--seeds 0,1,2",
            "--output_dir runs/sparse",
        ),
        "commits `070b65e` and `c6ea3fb`, which train alike",
        f"{POCKET}/sparse",
    ),
    Experiment(
        "sparse-lift",
        "pocket-arithmetic from the sparse model (right on .057 of the queries)",
        HALF_BATCH,
        compare("pocket/sparse", "ppo-2x-ema,team,team-lift-samples", "--output_dir runs/sparse"),
        "commit `03cd60f`",
        f"{POCKET}/sparse-lift",
    ),
    Experiment(
        "sparse-ideas",
        "pocket-arithmetic from the sparse model (right on .057 of the queries)",
        HALF_BATCH,
        [
            "cory compare --config experiments/pocket/sparse.yaml",
            "--seeds 0",
            "--output_dir runs/sparse",
        ],
        "of 2026-11-22; the file holds the figures as the log printed them, the runs were not kept",
        f"{POCKET}/sparse-ideas",
    ),
    Experiment(
        "rare",
        "pocket-arithmetic from a rarer model (right on .0024, .075 with an answer in view)",
        HALF_BATCH,
        compare(
            "pocket/rare",
            "ppo,ppo-2x-ema,cory,team-lift,team-lift-samples",
            "--output_dir runs/rare",
        ),
        "commit `b917376`",
        f"{POCKET}/rare",
        before=PRETRAIN.format("arithmetic-rare"),
    ),
    Experiment(
        "rarest",
        "pocket-arithmetic from the rarest model (right on .0006, .057 with an answer in view)",
        HALF_BATCH,
        compare(
            "pocket/rare",
            "ppo,ppo-2x,ppo-2x-ema,team-lift,team-lift-samples",
            "--model_name_or_path runs/models/pocket-arithmetic-rarest-lm",
            "--seeds 0,1,2,3,4",
            "--output_dir runs/rarest",
        ),
        "commit `b917376`; `ppo` with seeds 0 to 2",
        f"{POCKET}/rarest",
        added=("results-ppo.csv",),
        before=PRETRAIN.format("arithmetic-rarest"),
    ),
    Experiment(
        "second-look",
        "`arithmetic-convinced` (right on .011 alone, .67 with an answer in view)",
        "60 iterations, batch 128 a role, η 0.02",
        compare(
            "pocket/second-look",
            "ppo-2x,ppo-2x-ema,team,team-back-1,cory,ppo-4x",
            "--kl_coefs 0.02",
            "--output_dir runs/convinced-eta",
        ),
        "commit `edba736` (`cory` at `bc2c553`), one run a core; `cory`, `ppo-4x`: seeds 0 to 2",
        f"{POCKET}/convinced-eta",
        added=("results-cory.csv", "results-ppo-4x.csv"),
        before=PRETRAIN.format("arithmetic-convinced"),
    ),
    Experiment(
        "second-look-eta-0.1",
        "`arithmetic-convinced` (right on .011 alone, .67 with an answer in view)",
        HALF_BATCH,
        compare(
            "pocket/second-look",
            "ppo,ppo-2x,ppo-2x-ema,ppo-4x,cory,team,team-back-1,team-no-back",
            "--output_dir runs/convinced",
        ),
        "commit `edba736`; three runs of seed 0 at `7a3eed5`, which trains them alike",
        f"{POCKET}/convinced",
        before=PRETRAIN.format("arithmetic-convinced"),
    ),
    Experiment(
        "misled",
        "`arithmetic-misled` (right on .017 alone, .70 with an answer in view)",
        HALF_BATCH,
        compare(
            "pocket/second-look",
            "ppo-2x,ppo-2x-ema,team,team-back-1",
            "--model_name_or_path runs/models/pocket-arithmetic-misled-lm",
            "--seeds 0,1,2",
            "--output_dir runs/misled",
        ),
        "commit `edba736`; three runs of seed 0 at `e24aabb`",
        f"{POCKET}/misled",
        before=PRETRAIN.format("arithmetic-misled"),
    ),
    Experiment(
        "bfloat16",
        "pocket-reviews (graded reward; the initial model earns −.33)",
        "16 iterations, batch 64 a role, η 0.1",
        [
            "cory compare --config experiments/pocket/bfloat16.yaml",
            "--output_dir runs/bfloat16",
        ],
        "commit `03cd60f`",
        f"{POCKET}/bfloat16",
    ),
    Experiment(
        "imdb",
        "IMDB reviews, a GPT-2 of 0.53M parameters, a DistilBERT of 0.6M as reward",
        "100 iterations, batch 256 a role, 4 epochs, rate 3e-5, full KL in the reward at η 0.3",
        ["cory compare --config experiments/imdb/arms.yaml", "--seeds 0", "--output_dir runs/imdb"],
        "commit `3bacd5b`, which asked negative openings only; to be run again",
        "experiments/imdb/results",
        before="python -m experiments.imdb.pretrain --imdb stanfordnlp/imdb "
        "--output_dir runs/imdb-models",
    ),
    Experiment(
        "gsm8k",
        "GSM8K, a Llama of 0.53M parameters, one adapter an agent",
        "10 iterations, batch 32 a role, η 0.01",
        ["cory compare --config experiments/gsm8k/arms.yaml", "--output_dir runs/gsm8k"],
        "of 2026-11-23, on the first 128 held-out rows; the files came with commit `5e9659f`",
        "experiments/gsm8k/results",
        before="python -m experiments.gsm8k.pretrain --gsm8k openai/gsm8k "
        "--output_dir runs/gsm8k-model",
    ),
)
