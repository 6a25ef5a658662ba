"""Whether all queries can be asked of a model: they fit its context and its vocabulary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any, NamedTuple

from datasets import Dataset, IterableDataset

from cory.config import CORYConfig
from cory.tasks.custom import check_each
from cory.team.messages import is_chat
from cory.team.prompts import PromptEncoder
from cory.training.data import Stream, held_out_queries
from cory.training.given import words_for


class Limits(NamedTuple):
    """What a model can read."""

    context_length: int | None
    """Tokens of a prompt and its answer; None: without a limit."""
    num_embeddings: int
    """Token ids are below it."""


def checked_rows(
    dataset: Dataset | IterableDataset, encoder: PromptEncoder, limits: Limits, args: CORYConfig
) -> Dataset | Stream:
    """The data set, once its queries are known to fit the model; a stream is checked as it is read.

    Raises:
        ValueError: as `check_vocabulary` and `check_context` do.
    """
    if isinstance(dataset, Dataset):
        queries = dataset[args.prompt_column][:]
        check_vocabulary(queries, encoder, limits.num_embeddings, args)
        check_context(queries, encoder, limits.context_length, args)
        return dataset

    def check(first: int, rows: list[dict[str, Any]]) -> None:
        if args.prompt_column not in rows[0]:
            raise ValueError(
                f"it has no column {args.prompt_column!r}; its columns are "
                f"{', '.join(map(repr, rows[0]))}: rename one, or name it in prompt_column"
            )
        queries = [row[args.prompt_column] for row in rows]
        check_each(queries, args.prompt_column, "train_dataset", first)
        check_vocabulary(queries, encoder, limits.num_embeddings, args, first)
        check_context(queries, encoder, limits.context_length, args, first)

    return Stream(dataset, check)


def trained_queries(
    dataset: Dataset | Stream, eval_sets: Mapping[str, Dataset], args: CORYConfig
) -> list[str]:
    """Warnings of held-out sets most of whose queries are trained on; none for a stream."""
    if isinstance(dataset, Stream) or not eval_sets:
        return []
    found, trained = [], set(map(str, dataset[args.prompt_column]))
    for name, rows in eval_sets.items():
        queries = [
            str(row[args.prompt_column]) for row in held_out_queries(rows, args.num_eval_queries)
        ]
        shared = sum(query in trained for query in queries)
        if shared > len(queries) / 2:
            found.append(
                f"cory: warning: {shared} of the {len(queries)} held-out queries of "
                f"{words_for(name)} are trained on, too: evaluations show what is remembered, not "
                "what is learnt; hold out other rows"
            )
    return found


def check_vocabulary(
    queries: Sequence[Any],
    encoder: PromptEncoder,
    num_embeddings: int,
    args: CORYConfig,
    first: int = 0,
) -> None:
    """Refuse tokens that the model has no embedding for, where they are used.

    A tokenizer may have others: no prompt holds them, and no answer. The queries begin with that of
    row `first`.

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
        for row, query in enumerate(queries, first)
    }
    for place, token in used.items():
        if token >= num_embeddings:
            raise ValueError(
                f"token {token}, {tokenizer.convert_ids_to_tokens(token)!r}, is {place}, but the "
                f"model has embeddings for {num_embeddings} tokens only: use the model's own "
                "tokenizer (with tokenizer.pad_token = tokenizer.eos_token if that is what is "
                "missing), or call model.resize_token_embeddings(len(tokenizer)) and save both"
            )


def _check_variables_are_read(queries: Sequence[Any], args: CORYConfig) -> None:
    if args.chat_template_kwargs and not any(map(is_chat, queries)):
        raise ValueError(
            f"chat_template_kwargs={args.chat_template_kwargs} are variables of a chat template, "
            "but the queries are plain texts: make them lists of chat messages, or leave "
            "chat_template_kwargs away"
        )


def check_context(
    queries: Sequence[Any],
    encoder: PromptEncoder,
    context_length: int | None,
    args: CORYConfig,
    first: int = 0,
) -> None:
    """Refuse queries that cannot be rendered, or whose longest prompt and answer do not fit.

    Checked before training starts, because cutting a prompt would change what is asked, and because
    the chat template of a model may refuse messages or leave some out.

    Args:
        queries: of the data set.
        encoder: of prompts.
        context_length: tokens of the model's context; None: without a limit.
        args: settings.
        first: row of the first query.

    Raises:
        ValueError: names the row, for a length that of the longest query, and the ways out.
    """
    _check_variables_are_read(queries, args)
    longest = args.max_completion_length
    num_answers = args.num_agents - 1 if args.knowledge_transfer else 0
    word = next(token for token in count() if token not in encoder.end_ids)
    prompts = ([], [[word] * longest] * num_answers)

    def bound(query: Any) -> int:
        return max(encoder.upper_bound(query, answers) for answers in prompts)

    room = math.inf if context_length is None else context_length - longest

    def length(query: Any) -> int:
        return max(len(encoder.encode(query, answers)) for answers in prompts)

    # Short queries repeat, and one by one they take long to tokenise.
    length_of_text = cache(length)
    bound_by_bytes = cache(lambda num_bytes: bound("x" * num_bytes))
    lengths: dict[int, int] = {}
    for row, query in enumerate(queries, first):
        try:
            size = bound(query) if is_chat(query) else bound_by_bytes(len(query.encode()))
            # Tokenising a whole data set takes many seconds, so most queries pass by their bytes.
            if size > room or not (is_chat(query) or query.strip()):
                lengths[row] = length(query) if is_chat(query) else length_of_text(query)
        except ValueError as error:
            raise ValueError(f"row {row} of the queries: {error}") from error
    too_long = [row for row, length in lengths.items() if length > room]
    if too_long:
        row = max(too_long, key=lengths.__getitem__)
        raise ValueError(
            f"{len(too_long)} of {len(queries)} queries do not fit the model's context of "
            f"{context_length} tokens; the longest, row {row}, "
            f"{queries[row - first]!r:.60} …, needs {lengths[row] + longest}: a prompt of up to "
            f"{lengths[row]}, which may show {num_answers} earlier answers, and "
            f"max_completion_length={longest}. Leave such rows out of the data set, shorten the "
            "templates, or lower max_completion_length"
        )
