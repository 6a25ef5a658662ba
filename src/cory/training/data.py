"""Which queries fit the model, which ones an iteration trains on, and which are held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count, islice
from typing import Any

import torch
from datasets import Dataset, IterableDataset

from cory.algorithm.seeding import derive_generator
from cory.config import CORYConfig
from cory.io.errors import CoryRuntimeError
from cory.tasks.custom import check_each
from cory.team.chats import is_chat
from cory.team.prompts import PromptEncoder


class StreamError(CoryRuntimeError):
    """A row of a stream could not be read, or cannot be used."""


class Stream:
    """The rows of an `IterableDataset` by position; where it ends, it begins again.

    They come in the stream's own order, so a row depends on its position alone. A run that goes on
    at a later position reads what lies before again.

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

    def _passes(self) -> Iterator[dict[str, Any]]:
        for epoch in count():
            self.dataset.set_epoch(epoch)
            is_empty = True
            for row in self.dataset:
                is_empty = False
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


def checked_rows(
    dataset: Dataset | IterableDataset,
    encoder: PromptEncoder,
    context_length: int | None,
    args: CORYConfig,
) -> Dataset | Stream:
    """The data set, once its queries are known to fit the model; a stream is checked as it is read.

    Raises:
        ValueError: as `check_context` does.
    """
    if isinstance(dataset, Dataset):
        check_context(dataset[args.prompt_column][:], encoder, context_length, args)
        return dataset

    def check(first: int, rows: list[dict[str, Any]]) -> None:
        queries = [row.get(args.prompt_column) for row in rows]
        check_each(queries, args.prompt_column, "train_dataset", first)
        check_context(queries, encoder, context_length, args)

    return Stream(dataset, check)


def check_context(
    queries: Sequence[Any], encoder: PromptEncoder, context_length: int | None, args: CORYConfig
) -> None:
    """Refuse queries that cannot be rendered, or whose longest prompt and answer do not fit.

    Checked before training starts, because cutting a prompt would change what is asked, and because
    the chat template of a model may refuse messages or leave some out.

    Args:
        queries: of the data set.
        encoder: of prompts.
        context_length: tokens of the model's context; None: without a limit.
        args: settings.

    Raises:
        ValueError: names the row, for a length that of the longest query, and the ways out.
    """
    if args.chat_template_kwargs and not any(map(is_chat, queries)):
        raise ValueError(
            f"chat_template_kwargs={args.chat_template_kwargs} are variables of a chat template, "
            "but the queries are plain texts: make them lists of chat messages, or leave "
            "chat_template_kwargs away"
        )
    longest = args.max_completion_length
    num_answers = args.num_agents - 1 if args.knowledge_transfer else 0
    word = next(token for token in count() if token not in encoder.end_ids)
    prompts = ([], [[word] * longest] * num_answers)

    def bound(query: Any) -> int:
        return max(encoder.upper_bound(query, answers) for answers in prompts)

    room = math.inf if context_length is None else context_length - longest
    bound_by_bytes = cache(lambda num_bytes: bound("x" * num_bytes))
    lengths: dict[int, int] = {}
    for row, query in enumerate(queries):
        try:
            size = bound(query) if is_chat(query) else bound_by_bytes(len(query.encode()))
            # Tokenising a whole data set takes many seconds, so most queries pass by their bytes.
            if size > room or not (is_chat(query) or query.strip()):
                lengths[row] = max(len(encoder.encode(query, answers)) for answers in prompts)
        except ValueError as error:
            raise ValueError(f"row {row} of the queries: {error}") from error
    too_long = [row for row, length in lengths.items() if length > room]
    if too_long:
        row = max(too_long, key=lengths.__getitem__)
        raise ValueError(
            f"{len(too_long)} of {len(queries)} queries do not fit the model's context of "
            f"{context_length} tokens; the longest, {queries[row]!r:.60} …, needs "
            f"{lengths[row] + longest}: a prompt of up to {lengths[row]}, which may show "
            f"{num_answers} earlier answers, and "
            f"max_completion_length={longest}. Leave such rows out of the data set, shorten the "
            "templates, or lower max_completion_length"
        )
