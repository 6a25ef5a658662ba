"""The data of a TRL script: their number of rows, their order, queries of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict


def num_rows(dataset: Any, split: str = "train") -> int | None:
    """Of training data; None for a stream, or where there is no data set."""
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        dataset = dataset.get(split)
    if dataset is None or isinstance(dataset, IterableDataset):
        return None
    return len(dataset)


def in_own_order(dataset: Any) -> Any:
    """Training data whose rows are not shuffled: a stream of them."""
    return dataset.to_iterable_dataset() if isinstance(dataset, Dataset) else dataset


def with_texts(dataset: Any, tokenizer: Any, name: str) -> tuple[Any, list[list[int]]]:
    """A data set of `input_ids` with the column `prompt` that cory reads, and those ids.

    One that has a `prompt` stays as it is, with no ids.

    Raises:
        ValueError: it has neither.
    """
    if not isinstance(dataset, Dataset) or "prompt" in dataset.column_names:
        return dataset, []
    if "input_ids" not in dataset.column_names:
        raise ValueError(
            f"{name} has neither the column 'prompt' nor 'input_ids', but "
            f"{', '.join(dataset.column_names)}: rename the column of the queries to 'prompt'"
        )
    ids = [_without_padding(row, tokenizer.pad_token_id) for row in dataset["input_ids"]]
    texts = [tokenizer.decode(_without_start(row, tokenizer)) for row in ids]
    removed = [one for one in ("input_ids", "attention_mask") if one in dataset.column_names]
    return dataset.add_column("prompt", texts).remove_columns(removed), ids  # pyright: ignore


def check_same_tokens(
    dataset: Any, ids: list[list[int]], encode: Callable[[str], list[int]], name: str
) -> None:
    """Check that the texts of `with_texts` are read as the tokens that they were made from.

    Raises:
        ValueError: one is not; the message names the row.
    """
    for number, (row, own) in enumerate(zip(dataset, ids, strict=True)):
        if encode(row["prompt"]) != own:
            raise ValueError(
                f"Row {number} of {name}: its input_ids stand for {row['prompt']!r:.200}, which "
                "this tokenizer reads as other tokens: pass the queries as texts in a column "
                "'prompt'"
            )


def _without_padding(ids: list[int], pad: int) -> list[int]:
    """Ids without what pads them on either side; a single token stays."""
    first, last = 0, len(ids)
    while last - first > 1 and ids[first] == pad:
        first += 1
    while last - first > 1 and ids[last - 1] == pad:
        last -= 1
    return ids[first:last]


def _without_start(ids: list[int], tokenizer: Any) -> list[int]:
    """Ids without the BOS that the tokenizer puts before every text by itself."""
    start = tokenizer("").input_ids[:1]
    return ids[1:] if start and ids[:1] == start == [tokenizer.bos_token_id] else ids
