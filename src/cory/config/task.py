"""Settings: what is asked, and how an answer is paid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is asked, and how an answer is paid."""

    task: str | None = None
    """A built-in task: pocket-reviews, pocket-arithmetic, imdb or gsm8k. It sets the defaults of
    the fields below. None: bring `dataset_name` and `reward_funcs`."""
    dataset_name: str | None = None
    """Hub name, local directory, or .parquet/.jsonl/.json/.csv file."""
    dataset_config: str | None = None
    """Configuration name of a Hub data set."""
    dataset_train_split: str = "train"
    """Split to train on."""
    dataset_test_split: str = "test"
    """Held-out split to evaluate on."""
    prompt_column: str = "prompt"
    """Column that holds the query: a string, or a list of chat messages."""
    reward_funcs: list[str] | None = None
    """Reward functions: an import path (`package.module.function`, `path/to/file.py:function`), or
    the name or directory of a sequence-classification model."""
    reward_weights: list[float] | None = None
    """One weight per reward function. None: all 1."""
    reward_model_name_or_path: str | None = None
    """Sequence-classification model that a task's reward reads (imdb: lvwerra/distilbert-imdb)."""
    query_template: str = "{query}"
    """Prompt of whoever speaks first, and of every agent used alone. Must hold `{query}`."""
    observer_template: str = "{query}\n{references}\n"
    """Prompt of whoever speaks later. Must hold `{query}` and `{references}`."""
    reference_template: str = "{answer}"
    """How one earlier answer is shown inside `{references}`. Must hold `{answer}`, may hold
    `{query}`. Several answers follow each other in the order of speaking."""
