"""Data sets that the user passes as objects: which kinds are taken, and as what."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas
import pyarrow
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from cory.config import CORYConfig
from cory.io.objects import shown
from cory.tasks.custom import check_queries
from cory.tasks.data import in_random_order

Splits = DatasetDict | IterableDatasetDict
GivenRows = Dataset | IterableDataset | Splits | pandas.DataFrame | Sequence[Mapping[str, Any]]
"""What `train_dataset` and `eval_dataset` may be; `eval_dataset` no stream."""
EvalRows = GivenRows | Mapping[str, GivenRows]
"""What `eval_dataset` may be: one data set, or several by name."""
UNNAMED = ""
"""The name of held-out rows that are the only ones."""
_SET_NAME = re.compile(r"(?!(?:agent_\d+|merged|reward|logged)$)[\w.-]{1,100}")
"""Names that can stand before those of agents and metrics, where no other name stands."""


def given_rows(
    train_dataset: GivenRows | None, eval_dataset: EvalRows | None, args: CORYConfig
) -> tuple[Dataset | IterableDataset | None, dict[str, Dataset]]:
    """The rows that the user passed, with Python values; held-out rows by name, in random order.

    Of a `DatasetDict` the split is taken that the settings name. One that is passed as
    `train_dataset` alone also gives the held-out rows, if it has that split.

    Raises:
        ValueError: an object is of another kind, lacks the split, has no rows, or its rows have no
            common form or no query.
    """
    if eval_dataset is None and isinstance(train_dataset, Splits):
        eval_dataset = train_dataset.get(args.dataset_test_split)
    train_rows = _rows(train_dataset, "train_dataset", args.dataset_train_split)
    if isinstance(train_rows, Dataset):
        _check(train_rows, "train_dataset", args)
    sets = _by_name(eval_dataset)
    return train_rows, {name: _held_out(given, name, args) for name, given in sets.items()}


def words_for(set_name: str) -> str:
    """A held-out set in a message."""
    return "eval_dataset" if set_name == UNNAMED else f"eval_dataset[{set_name!r}]"


def _by_name(given: EvalRows | None) -> Mapping[str, GivenRows]:
    if given is None:
        return {}
    if isinstance(given, Splits) or not isinstance(given, Mapping):
        return {UNNAMED: given}
    if not given:
        raise ValueError("eval_dataset is an empty dict: put data sets in by name, or pass None")
    for name in given:
        if not isinstance(name, str) or not _SET_NAME.fullmatch(name):
            raise ValueError(
                f"eval_dataset has a data set of the name {shown(name)}: use letters, digits, "
                "'_', '-' and '.', at most 100 of them, and not agent_0, merged, reward or logged"
            )
    return given


def _held_out(given: GivenRows, set_name: str, args: CORYConfig) -> Dataset:
    name = words_for(set_name)
    rows = _rows(given, name, args.dataset_test_split)
    if rows is None:
        raise ValueError(f"{name} is None: {_fix(given)}")
    if isinstance(rows, IterableDataset):
        raise ValueError(
            f"{name} is a stream, of which no fair sample can be drawn: pass its rows, "
            "Dataset.from_list(list(stream.take(1000))), from a stream that is not sorted"
        )
    _check(rows, name, args)
    return in_random_order(rows)


def _check(rows: Dataset, name: str, args: CORYConfig) -> None:
    if len(rows) == 0:
        raise ValueError(f"{name} is empty: it needs at least one row")
    check_queries(rows, args.prompt_column, name)


def _rows(given: Any, name: str, split: str) -> Dataset | IterableDataset | None:
    """The rows of one object; None where none was passed."""
    if isinstance(given, Splits):
        if split not in given:
            raise ValueError(
                f"{name} has no split {split!r}; its splits are {', '.join(map(repr, given))}: "
                "pass one of them, or name it in dataset_train_split or dataset_test_split"
            )
        given = given[split]
    if given is None or isinstance(given, IterableDataset):
        return None if given is None else given.with_format(None)
    if isinstance(given, Dataset):
        # Formats such as that of pandas give tables; a transform makes rows of its own.
        return given if given.format["type"] == "custom" else given.with_format(None)
    if isinstance(given, pandas.DataFrame):
        return _made(name, lambda: Dataset.from_pandas(given, preserve_index=False))
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return _from_list(given, name)
    raise ValueError(f"{name} is {_kind(given)}: {_fix(given)}")


def _from_list(rows: Sequence[Any], name: str) -> Dataset:
    """A column for every key of any row; None where a row lacks it."""
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(
                f"Row {number} of {name} is {_kind(row)}: a row is an object such as "
                '{"prompt": "…"}, with the query in the column prompt_column'
            )
    names = dict.fromkeys(column for row in rows for column in row)
    if wrong := [column for column in names if not isinstance(column, str)]:
        raise ValueError(f"{name} has the column {wrong[0]!r}: name columns by texts")
    columns = {column: [row.get(column) for row in rows] for column in names}
    return _made(name, lambda: Dataset.from_dict(columns))


def _made(name: str, make: Callable[[], Dataset]) -> Dataset:
    try:
        return make()
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"The rows of {name} have no common form: {error}. Give each column values of one kind"
        ) from error


def _fix(given: Any) -> str:
    if isinstance(given, str | bytes):
        return "set dataset_name in the settings to load data by name or path"
    return (
        "pass a Dataset, an IterableDataset (to train on), a DatasetDict, a pandas DataFrame, or a "
        'list of rows such as {"prompt": "…"}'
    )


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"
