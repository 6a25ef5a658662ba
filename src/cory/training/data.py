"""Which queries fit the model, which ones an iteration trains on, and which are held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any

import torch
from datasets import Dataset

from cory.algorithm.seeding import derive_generator
from cory.config import CORYConfig
from cory.team.chats import is_chat
from cory.team.prompts import PromptEncoder


def queries_at(dataset: Dataset, args: CORYConfig, step: int) -> list[dict[str, Any]]:
    """Rows of an iteration: a function of the step, so there is nothing to save for a resume.

    Iterations take `batch_size / num_generations` rows each from shuffled passes over the data set;
    a pass that ends in the middle of one is followed by the next pass.
    """
    num_queries, size = args.batch_size // args.num_generations, len(dataset)
    first = step * num_queries
    places = [divmod(position, size) for position in range(first, first + num_queries)]
    orders = {
        epoch: torch.randperm(size, generator=derive_generator(args.seed, "data", epoch))
        for epoch in {epoch for epoch, _ in places}
    }
    return [dataset[int(orders[epoch][place])] for epoch, place in places]


def held_out_queries(dataset: Dataset, num_queries: int) -> list[dict[str, Any]]:
    """The first `num_queries` rows, the same in every run, whatever its seed."""
    return [dataset[row] for row in range(min(num_queries, len(dataset)))]


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
            f"{context_length} tokens; row {row} needs {lengths[row] + longest}: a prompt of up to "
            f"{lengths[row]}, which may show {num_answers} earlier answers, and "
            f"max_completion_length={longest}. Leave such rows out of the data set, shorten the "
            "templates, or lower max_completion_length"
        )
