"""What is killed and resumed: trainings under the settings that keep most state, and a comparison.

All train on the pocket arithmetic; a run takes some seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import EarlyStoppingCallback

from cory.cli import main as cory
from cory.cli.options import make_parser, parse
from cory.cli.settings import training_settings
from cory.training.trainer import CORYTrainer

COMMON = """
--task pocket-arithmetic --use_cpu --batch_size 4 --max_completion_length 4 --learning_rate 1e-4
--num_ppo_epochs 1 --role_exchange_period 2 --num_eval_queries 4 --eval_steps 4 --save_steps 2
--save_total_limit 3
""".split()
TRAINED = [*COMMON, "--log_samples_steps", "5", "--max_steps", "60", "--resume"]


def train(words: list[str]) -> None:
    """`cory train`."""
    cory(["train", *TRAINED, *words])


def train_until_it_stops(words: list[str]) -> None:
    """The same in Python, with a callback that ends it early and counts in a checkpoint's state."""
    given, _ = parse(make_parser("", ""), [*TRAINED, *words])
    stop = EarlyStoppingCallback(early_stopping_patience=5)
    CORYTrainer(args=training_settings(given), callbacks=[stop]).train()


def compare(words: list[str]) -> None:
    """`cory compare` of two arms, one after the other."""
    arms = ["--arms", "ppo,cory", "--seeds", "0", "--workers", "1"]
    cory(["compare", *COMMON, "--max_steps", "24", *arms, *words])


@dataclass(frozen=True)
class Variant:
    """A command that goes on when it is repeated."""

    name: str
    words: str = ""
    command: Callable[[list[str]], None] = train
    has_children: bool = False
    share: float = 1 / 20
    """Of the seconds of the undisturbed run, in which a kill by the clock strikes. That run has its
    lines counted, which takes time; a comparison counts none, and starts anew after each kill."""

    def run(self, directory: Path) -> None:
        """Begin, or go on, in a directory."""
        self.command([*self.words.split(), "--output_dir", str(directory)])


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(
            "all",
            "--merge_on_exchange 0.5 --weight_average_decay 0.9 --kl_controller adaptive "
            "--normalize_rewards --elastic_reset_period 7",
        ),
        Variant("full-copies"),
        Variant("lora", "--use_peft --lora_r 4 --lora_alpha 8 --learning_rate 1e-3"),
        Variant("team", "--preset team"),
        Variant("elastic-reset", "--elastic_reset_period 7 --elastic_reset_decay 0.9"),
        Variant("adaptive-kl", "--kl_controller adaptive --kl_target 0.5 --kl_horizon 100"),
        Variant("schedules", "--lr_scheduler_type cosine --warmup_steps 9"),
        Variant(
            "early-stopping",
            "--eval_steps 2 --metric_for_best_model task_reward",
            train_until_it_stops,
        ),
        Variant("compare", command=compare, has_children=True, share=1 / 3),
    )
}
"""By name."""
