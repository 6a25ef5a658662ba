"""Which queries fit the model, which ones an iteration trains on, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any

import torch
from datasets import Dataset

from cory.algorithm.seeding import derive_generator
from cory.config import CORYConfig
from cory.team.prompts import PromptEncoder, is_chat


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
    """Refuse queries whose longest possible prompt and answer do not fit the model's context.

    Checked before training starts, because cutting a prompt would change what is asked.

    Raises:
        ValueError: names the longest query and the ways out.
    """
    if context_length is None:
        return
    longest = args.max_completion_length
    num_answers = args.num_agents - 1 if args.knowledge_transfer else 0
    word = next(token for token in count() if token not in encoder.end_ids)
    prompts = ([], [[word] * longest] * num_answers)

    def bound(query: Any) -> int:
        return max(encoder.upper_bound(query, answers) for answers in prompts)

    room = context_length - longest
    bound_by_bytes = cache(lambda num_bytes: bound("x" * num_bytes))
    # Tokenising a whole data set takes many seconds, so most queries pass by their bytes.
    lengths = {
        row: max(len(encoder.encode(query, answers)) for answers in prompts)
        for row, query in enumerate(queries)
        if (bound(query) if is_chat(query) else bound_by_bytes(len(query.encode()))) > room
    }
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


def check_vocabulary(
    queries: Sequence[Any], encoder: PromptEncoder, num_embeddings: int, args: CORYConfig
) -> None:
    """Refuse tokens that the model has no embedding for, where they are used.

    A tokenizer may have others: no prompt holds them, and no answer.

    Raises:
        ValueError: names the token, where it is used, and the ways out.
    """
    tokenizer = encoder.tokenizer
    ids = {*tokenizer.get_vocab().values(), *encoder.end_ids}
    if max(ids, default=0) < num_embeddings:
        return
    used = {
        f"its {role}": token
        for role in ("eos_token", "pad_token", "bos_token", "unk_token")
        if (token := getattr(tokenizer, f"{role}_id")) is not None
    }
    used["a token that ends an answer"] = max(encoder.end_ids, default=0)
    seen = ([], [[]] * (args.num_agents - 1))
    used |= {
        f"in the prompt of query {row}": max(max(encoder.encode(query, shown)) for shown in seen)
        for row, query in enumerate(queries)
    }
    for place, token in used.items():
        if token >= num_embeddings:
            raise ValueError(
                f"token {token}, {tokenizer.convert_ids_to_tokens(token)!r}, is {place}, but the "
                f"model has embeddings for {num_embeddings} tokens only: use the model's own "
                "tokenizer (with tokenizer.pad_token = tokenizer.eos_token if that is what is "
                "missing), or call model.resize_token_embeddings(len(tokenizer)) and save both"
            )
