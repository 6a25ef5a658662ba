"""Which queries fit the model, which ones an iteration trains on, and which are held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import torch
from datasets import Dataset, IterableDataset

from cory.algorithm.seeding import derive_generator
from cory.config import CORYConfig
from cory.io.errors import CoryRuntimeError


class StreamError(CoryRuntimeError):
    """A row of a stream could not be read, or cannot be used."""


class Stream:
    """The rows of an `IterableDataset` by position; where it ends, it begins again.

    They come in the stream's own order, so a row depends on its position alone. A run that goes on
    at a later position reads what lies before again. Every row has the columns that were met so
    far; None where its own lacks one.

    Args:
        dataset: that the rows come from.
        check: called with the number of the first and the rows, each time that some are read; what
            it raises as a ValueError ends the run.
    """

    def __init__(
        self, dataset: IterableDataset, check: Callable[[int, list[dict[str, Any]]], None]
    ) -> None:
        self.dataset = dataset
        self.check = check
        self.newest: tuple[int, list[dict[str, Any]]] = (0, [])
        self._begin()

    def rows(self, first: int, number: int) -> list[dict[str, Any]]:
        """The rows from position `first` on.

        Raises:
            StreamError: the stream has no rows, one could not be read, or `check` refuses one.
        """
        if self.newest[0] == first and len(self.newest[1]) == number:
            return self.newest[1]
        if first < self.position:
            self._begin()
        try:
            rows = list(islice(self.passes, first - self.position, first - self.position + number))
            rows = [{**dict.fromkeys(self.columns), **row} for row in rows]
            self.check(first, rows)
        except Exception as error:  # a stream runs code of the user, and reads over a network
            position = self.position
            self._begin()
            raise StreamError(
                f"train_dataset cannot be read on from row {position}: "
                f"{type(error).__name__}: {error}"
            ) from error
        self.position, self.newest = first + number, (first, rows)
        return rows

    def _begin(self) -> None:
        self.passes, self.position = self._passes(), 0
        self.columns: dict[str, None] = {}

    def _passes(self) -> Iterator[dict[str, Any]]:
        for epoch in count():
            self.dataset.set_epoch(epoch)
            is_empty = True
            for row in self.dataset:
                is_empty = False
                self.columns |= dict.fromkeys(row)
                yield row
            if is_empty:
                raise ValueError("it has no rows")


def queries_at(dataset: Dataset | Stream, args: CORYConfig, step: int) -> list[dict[str, Any]]:
    """Rows of an iteration: a function of the step, so there is nothing to save for a resume.

    Iterations take `batch_size / num_generations` rows each from shuffled passes over the data set;
    a pass that ends in the middle of one is followed by the next pass. A stream keeps its order.
    """
    num_queries = args.batch_size // args.num_generations
    first = step * num_queries
    if isinstance(dataset, Stream):
        return dataset.rows(first, num_queries)
    size = len(dataset)
    places = [divmod(position, size) for position in range(first, first + num_queries)]
    orders = {
        epoch: torch.randperm(size, generator=derive_generator(args.seed, "data", epoch))
        for epoch in {epoch for epoch, _ in places}
    }
    return [dataset[int(orders[epoch][place])] for epoch, place in places]


def held_out_queries(dataset: Dataset, num_queries: int) -> list[dict[str, Any]]:
    """The first `num_queries` rows, the same in every run, whatever its seed.

    A held-out data set is in random order (`cory.tasks.data.in_random_order`).
    """
    return [dataset[row] for row in range(min(num_queries, len(dataset)))]
