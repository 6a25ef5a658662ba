"""Pocket arithmetic: three sums of one-digit numbers, step by step, with a checkable answer.

The query is an expression such as `3+4+2-1`. The embedded model answers `07+2-1=09-1=08`: it works
out one operation at a time, from left to right, and often slips. The reward is 1 if the last value
equals the true one.

Running totals have two digits, so every character has its place: a model this small learns that in
minutes, where it would need hours to find numbers of any length.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cory.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from cory.config import CORYConfig

DEFAULTS: dict[str, Any] = {
    "model_name_or_path": "pocket-arithmetic-lm",
    "query_template": "{query}=",
    "observer_template": "{references}{query}=",
    "reference_template": "{query}={answer}? ",
    "max_completion_length": 16,
    "batch_size": 256,
    "learning_rate": 2e-4,
    "kl_coef": 0.1,
    "num_ppo_epochs": 2,
    "num_mini_batches": 2,
    "normalize_rewards": True,
    "max_steps": 60,
}

NUM_TRAIN_QUERIES = 8192
NUM_EVAL_QUERIES = 1024
HELD_OUT_SHARE = 0.1


def parse_expression(expression: str) -> list[int]:
    """The signed terms of an expression: `3+4-2` gives `[3, 4, -2]`.

    Raises:
        ValueError: the text is not such an expression.
    """
    if not re.fullmatch(r"-?[0-9]+([+-][0-9]+)*", expression):
        raise ValueError(
            f"{expression!r} is not an expression: write numbers joined by + or -, no spaces"
        )
    return [int(term) for term in re.findall(r"[+-]?[0-9]+", expression)]


def write_expression(terms: Sequence[int]) -> str:
    """The text of an expression; the inverse of `parse_expression`."""
    return f"{terms[0]}" + "".join(f"{term:+d}" for term in terms[1:])


def write_line(total: int, rest: Sequence[int]) -> str:
    """One line of a chain of thought: a running total in two digits, then the terms to come."""
    return f"{total:02d}" + "".join(f"{term:+d}" for term in rest)


def solve(expression: str) -> int:
    """The true value of an expression."""
    return sum(parse_expression(expression))


def random_query(rng: random.Random) -> str:
    """One expression: four one-digit numbers, added or taken away, no running total below 0."""
    terms = [rng.randrange(1, 10)]
    while len(terms) < 4:
        number = rng.randrange(1, 10)
        can_subtract = number <= sum(terms)
        terms.append(-number if can_subtract and rng.random() < 0.5 else number)
    return write_expression(terms)


def is_held_out(query: str) -> bool:
    """Whether a query belongs to the evaluation split; pretraining never sees those.

    Decided by a hash of the query, so that every program agrees without a list.
    """
    return hashlib.sha256(query.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def split_queries(num_queries: int, *, held_out: bool, seed: int) -> list[str]:
    """Distinct random queries of one split, the same ones for the same seed."""
    rng = random.Random(seed)
    # A dict keeps the order of drawing; a set would not.
    queries: dict[str, None] = {}
    while len(queries) < num_queries:
        query = random_query(rng)
        if is_held_out(query) == held_out:
            queries[query] = None
    return list(queries)


def final_value(completion: str) -> int | None:
    """The number after the last `=` (the whole text if there is none); None if there is none."""
    last = completion.rpartition("=")[2].strip()
    return int(last) if re.fullmatch(r"-?[0-9]{1,9}", last) else None


def arithmetic_reward(completions: list[str], answer: list[int], **columns: Any) -> list[float]:
    """1 for each completion whose final value equals the true answer, else 0.

    `arithmetic_reward(["07+2-1=09-1=08"], [8])` gives `[1.0]`.
    """
    return [
        float(final_value(completion) == truth)
        for completion, truth in zip(completions, answer, strict=True)
    ]


def load(args: CORYConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    """Training and held-out queries with their true answers, and the reward.

    Queries were drawn one by one, so their order is random.
    """
    from datasets import Dataset

    def build(num_queries: int, *, held_out: bool) -> Dataset:
        queries = split_queries(num_queries, held_out=held_out, seed=0)
        answers = [solve(query) for query in queries]
        return Dataset.from_dict({args.prompt_column: queries, "answer": answers})

    return Task(
        train_dataset=build(NUM_TRAIN_QUERIES, held_out=False),
        eval_dataset=build(NUM_EVAL_QUERIES, held_out=True),
        reward_funcs=[arithmetic_reward],
    )
