"""Settings: what is asked, how long an answer may be, and how it is paid."""

from __future__ import annotations

from dataclasses import dataclass

from cory.config.fields import POSITIVE, Placeholders, setting


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is asked, how long an answer may be, and how it is paid."""

    task: str | None = setting(None)
    """Built-in task: pocket-reviews, pocket-arithmetic, imdb or gsm8k. It sets the defaults of the
    other settings. None: set `dataset_name` and `reward_funcs` yourself."""
    dataset_name: str | None = setting(None)
    """Data set: a Hub name, a local directory, or a .parquet, .jsonl, .json or .csv file."""
    dataset_config: str | None = setting(None)
    """Configuration name of a Hub data set."""
    dataset_train_split: str = setting("train")
    """Split of the data set to train on."""
    dataset_test_split: str = setting("test")
    """Held-out split of the data set to evaluate on."""
    prompt_column: str = setting("prompt")
    """Column that holds the query: a string, or a list of chat messages."""
    reward_funcs: list[str] | None = setting(None)
    """Reward functions. Each is an import path (`package.module.function`), a function in a file
    (`path/to/file.py:function`), or the name or directory of a sequence-classification model."""
    reward_weights: list[float] | None = setting(None)
    """One weight per reward function. None: every weight is 1."""
    reward_model_name_or_path: str | None = setting(None)
    """Sequence-classification model that the task's reward uses (imdb: lvwerra/distilbert-imdb)."""
    query_template: str = setting("{query}", Placeholders(("{query}",)))
    """Prompt of the pioneer, and of every agent that is used alone. Must hold `{query}`."""
    observer_template: str = setting(
        "{query}\n{references}\n", Placeholders(("{query}", "{references}"))
    )
    """Prompt of an observer. Must hold `{query}` and `{references}`."""
    reference_template: str = setting("{answer}", Placeholders(("{answer}",)))
    """Text of one earlier answer inside `{references}`. Must hold `{answer}` and may hold
    `{query}`. Several answers stand in the order in which the agents spoke."""
    max_completion_length: int = setting(32, POSITIVE)
    """Maximum number of new tokens per answer."""
    min_completion_length: int | None = setting(None, POSITIVE)
    """Draw the maximum length of each iteration uniformly from this number up to
    `max_completion_length`, as the paper does on IMDB. None: always the maximum."""
