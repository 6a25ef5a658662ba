"""Tasks: what is asked, and how an answer is paid.

A task is a module with `DEFAULTS`, the settings it brings, and `load(args, tokenizer) -> Task`.
This package imports neither torch nor transformers nor datasets, so that a command line can list
tasks and their defaults at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cory.config import CORYConfig
from cory.config.presets import preset_settings
from cory.io.files import look_up

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from cory.rewards.calling import RewardFunc

TASKS = {
    "pocket-reviews": "cory.tasks.pocket_reviews",
    "pocket-arithmetic": "cory.tasks.pocket_arithmetic",
    "imdb": "cory.tasks.imdb",
    "gsm8k": "cory.tasks.gsm8k",
}
CUSTOM = "cory.tasks.custom"


@dataclass(frozen=True)
class Task:
    """Queries to train on, queries to evaluate on, and the functions that pay the answers."""

    train_dataset: Dataset
    """Column `args.prompt_column`: the query, a string or chat messages. Its other columns are
    passed to the reward functions."""
    eval_dataset: Dataset
    """Held-out queries in random order, since an evaluation takes the first; the same columns."""
    reward_funcs: list[RewardFunc]
    """Each is paid for by its weight in `args.reward_weights`."""


def task_defaults(name: str) -> dict[str, Any]:
    """The settings that a built-in task brings: a fresh dict by field name of `CORYConfig`.

    Raises:
        ValueError: there is no such task; the message lists those there are.
    """
    return dict(_task_module(name).DEFAULTS)


def for_task(task: str, *, preset: str | None = None, **overrides: Any) -> CORYConfig:
    """Settings of a built-in task: its defaults, changed by a preset, changed by `overrides`.

    `for_task("imdb", preset="paper", max_steps=20)`.

    Raises:
        ValueError: there is no such task or preset, or a value breaks a rule.
    """
    return CORYConfig(
        **{"task": task, **task_defaults(task), **preset_settings(preset), **overrides}
    )


def load_task(args: CORYConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    """The data sets and reward functions of `args.task`, or the user's own where it is None.

    Raises:
        ValueError: there is no such task, or its data or reward functions cannot be used.
    """
    module = import_module(CUSTOM) if args.task is None else _task_module(args.task)
    return module.load(args, tokenizer)


def _task_module(name: str) -> Any:
    return import_module(look_up("task", name, TASKS))
