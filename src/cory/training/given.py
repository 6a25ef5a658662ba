"""Data sets that the user passes as objects: which kinds are taken, and as what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas
import pyarrow
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from cory.config import CORYConfig
from cory.tasks.custom import check_queries
from cory.tasks.data import in_random_order

Splits = DatasetDict | IterableDatasetDict
GivenRows = Dataset | IterableDataset | Splits | pandas.DataFrame | Sequence[Mapping[str, Any]]
"""What `train_dataset` and `eval_dataset` may be; `eval_dataset` no stream."""


def given_rows(
    train_dataset: GivenRows | None, eval_dataset: GivenRows | None, args: CORYConfig
) -> tuple[Dataset | IterableDataset | None, Dataset | None]:
    """The rows that the user passed, with Python values; held-out rows in random order.

    Of a `DatasetDict` the split is taken that the settings name. One that is passed as
    `train_dataset` alone also gives the held-out rows, if it has that split.

    Raises:
        ValueError: an object is of another kind, lacks the split, has no rows, or its rows have no
            common form or no query.
    """
    test_split = args.dataset_test_split
    if eval_dataset is None and isinstance(train_dataset, Splits):
        eval_dataset = train_dataset.get(test_split)
    held_out = _rows(eval_dataset, "eval_dataset", test_split)
    if isinstance(held_out, IterableDataset):
        raise ValueError(
            "eval_dataset is a stream, of which no fair sample can be drawn: pass its rows, "
            "Dataset.from_list(list(stream.take(1000))), from a stream that is not sorted"
        )
    train_rows = _rows(train_dataset, "train_dataset", args.dataset_train_split)
    for name, rows in {"train_dataset": train_rows, "eval_dataset": held_out}.items():
        if isinstance(rows, Dataset):
            if len(rows) == 0:
                raise ValueError(f"{name} is empty: it needs at least one row")
            check_queries(rows, args.prompt_column, name)
    return train_rows, None if held_out is None else in_random_order(held_out)


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
    raise ValueError(f"{name} is {_kind(given)}: {_fix(given, name)}")


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


def _fix(given: Any, name: str) -> str:
    if isinstance(given, str | bytes):
        return "set dataset_name in the settings to load data by name or path"
    if isinstance(given, Mapping) and name == "eval_dataset":
        return (
            "pass one data set; measure further ones after the training with "
            "`cory eval RUN --dataset_name …`"
        )
    return (
        "pass a Dataset, an IterableDataset (to train on), a DatasetDict, a pandas DataFrame, or a "
        'list of rows such as {"prompt": "…"}'
    )


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"
