"""The user's own task: any data set with a column of queries, any reward functions.

    cory train --dataset_name questions.jsonl --reward_funcs my_rewards.py:accuracy …

Without a `test` split a tenth of the rows is held out (`cory.tasks.data.hold_out`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cory.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from cory.config import CORYConfig


def load(args: CORYConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    """The data set `args.dataset_name`, paid by `args.reward_funcs`.

    Raises:
        ValueError: either is not set or cannot be used, or a query is neither a text nor a list of
            chat messages.
    """
    from cory.tasks.data import task_rewards

    splits = load_queries(args)
    if not args.reward_funcs:
        raise ValueError(
            f"dataset_name={args.dataset_name!r} comes without reward_funcs; set them to import "
            "paths such as my_rewards.py:accuracy or to the name of a reward model."
        )
    return Task(*splits, task_rewards(args, args.reward_funcs))


def load_queries(args: CORYConfig) -> tuple[Dataset, Dataset]:
    """The training and the held-out split of `args.dataset_name`.

    Raises:
        ValueError: it is not set or cannot be used, or a query is neither a text nor a list of chat
            messages.
    """
    from cory.tasks.data import load_splits

    if args.dataset_name is None:
        raise ValueError(
            "Neither task nor dataset_name is set; set task to a built-in task, or dataset_name to "
            "a Hub name, a directory or a file."
        )
    check = partial(check_queries, prompt_column=args.prompt_column, name=args.dataset_name)
    return load_splits(args, args.dataset_name, check)


def check_queries(dataset: Dataset, prompt_column: str, name: str) -> None:
    """Check that every value of `prompt_column` is a text or a list of chat messages.

    Raises:
        ValueError: names the first row where it is not.
    """
    from cory.tasks.data import require_columns

    column = require_columns(dataset, [prompt_column], name)[prompt_column]
    try:
        queries = column[:]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Data set {name!r} has text in column {prompt_column!r} that is not UTF-8: {error}. "
            "Save it again as UTF-8"
        ) from error
    check_each(queries, prompt_column, name)


def check_each(queries: Sequence[Any], prompt_column: str, name: str, first: int = 0) -> None:
    """Check that every query, of which the first is in row `first`, is a text or chat messages.

    Raises:
        ValueError: names the first row where it is not.
    """
    for row, query in enumerate(queries, first):
        if not query or not (isinstance(query, str) or _is_chat(query)):
            raise ValueError(
                f"Row {row} of data set {name!r} has {query!r} in column {prompt_column!r}; a "
                "query is a text that is not empty, or a list of chat messages such as "
                '{"role": "user", "content": "…"}. Change or drop the row.'
            )


def _is_chat(query: Any) -> bool:
    return isinstance(query, list) and all(
        isinstance(message, dict) and {"role", "content"} <= message.keys() for message in query
    )
