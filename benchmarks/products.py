"""The products of an iteration at the shapes that occur, and the memory that they read.

An agent's tokens pass through the model as follows. Prompts are read in one pass, answers of a
query sharing theirs; then one pass per token has as many rows as there are answers. Scoring is one
pass over prompts and answers, an epoch of learning three: forward, backward by inputs and by
weights (not by weights that are frozen under adapters). The head multiplies the last token of a
prompt and the tokens of answers alone. Agents whose prompts do not depend on each other, and whose
base is the same, answer in one batch.

No pass is faster than its products, nor than its weights, keys and values are read from memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.cases import SHAPES, Case

BYTES = {"float32": 4.0, "bfloat16": 2.0}
NF4_BYTES = 0.5
MAX_ROWS = 4096
"""Rows of a product; more of them are split, which changes no rate."""

Kind = Literal["forward", "by_inputs", "by_weights"]
Matrix = tuple[int, int, int]
"""Outputs, inputs, and how many such matrices a model has."""


@dataclass(frozen=True)
class Product:
    """Tokens times a weight matrix (`forward`), or one of the two products of its gradient."""

    kind: Kind
    rows: int
    outputs: int
    inputs: int

    @property
    def flop(self) -> float:
        """Floating-point operations."""
        return 2.0 * self.rows * self.outputs * self.inputs


@dataclass(frozen=True)
class Pass:
    """One way through the model, forward or backward; an iteration makes it `times` times.

    `rows` and `head_rows` are tokens in the body and in the head, `cached_bytes` those of keys and
    values that it reads.
    """

    phase: str
    kind: Kind
    rows: float
    head_rows: float
    times: float
    cached_bytes: float = 0.0


@dataclass(frozen=True)
class TimedPass:
    """What a pass took where it was measured: `seconds` of its products, `num_bytes` it reads."""

    phase: str
    name: str
    times: float
    flop: float
    num_bytes: float
    seconds: float

    def floor_seconds(self, memory_rate: float) -> float:
        """Seconds of all its times, at `memory_rate` bytes per second."""
        return self.times * max(self.seconds, self.num_bytes / memory_rate)


def passes(case: Case, total_tokens: int) -> list[Pass]:
    """The passes of an iteration, where all agents have `total_tokens` in prompts and answers."""
    agents, sequences = case.num_agents, case.batch_size
    tokens, answers = total_tokens / agents, sequences * case.num_tokens
    independent = agents == 1 or not case.transfer
    together = agents if case.adapters and independent else 1
    sharing = case.num_generations if independent else 1
    queries, rows = together * sequences / sharing, float(together * sequences)
    prompt_tokens = together * (tokens - answers) / sharing
    cached = together * cache_bytes(case, total_tokens)
    turns = agents / together
    learnt: tuple[Kind, ...] = ("forward", "by_inputs", "by_weights")
    return [
        Pass("generate", "forward", prompt_tokens, queries, turns),
        Pass("generate", "forward", rows, rows, turns * (case.num_tokens - 1), cached),
        Pass("score", "forward", tokens, answers, agents),
        *(
            Pass("update", kind, tokens, answers, agents * case.num_epochs)
            for kind in learnt[: case.passes_per_epoch]
        ),
    ]


def time_pass(
    one: Pass,
    body: Sequence[Matrix],
    head: Matrix,
    weights: float,
    seconds: Callable[[Product], float],
) -> TimedPass:
    """A pass with the seconds of its products.

    Args:
        body: matrices of the model without its head.
        weights: bytes of them all.
        seconds: how long a product takes.
    """
    parts = [
        (count * repeats, product)
        for matrices, rows in ((body, one.rows), ([head], one.head_rows))
        for outputs, inputs, count in matrices
        for repeats, product in [split(one.kind, rows, outputs, inputs)]
    ]
    name = f"{one.kind} of {one.rows:,.0f} rows, {one.head_rows:,.0f} in the head"
    flop = sum(count * product.flop for count, product in parts)
    spent = sum(count * seconds(product) for count, product in parts)
    return TimedPass(one.phase, name, one.times, flop, weights + one.cached_bytes, spent)


def split(kind: Kind, rows: float, outputs: int, inputs: int) -> tuple[float, Product]:
    """A product of at most `MAX_ROWS` rows, and how many of them have all rows."""
    size = max(1, round(rows / math.ceil(rows / MAX_ROWS)))
    return rows / size, Product(kind, size, outputs, inputs)


def activation_bytes(case: Case) -> float:
    """Bytes of a number that matrix products read."""
    return BYTES["bfloat16" if case.bf16 else case.dtype]


def weight_bytes(case: Case, body_weights: int, head_weights: int) -> float:
    """Bytes of weights as products read them; only those of the body are quantised."""
    number = activation_bytes(case)
    return body_weights * (NF4_BYTES if case.load_in_4bit else number) + head_weights * number


def cache_bytes(case: Case, total_tokens: int) -> float:
    """Bytes of an agent's keys and values, when its answers have half of their tokens."""
    shape = SHAPES[case.shape]
    context = total_tokens / (case.num_agents * case.batch_size) - case.num_tokens / 2
    numbers = case.batch_size * context * shape.layers * 2 * shape.key_width
    return numbers * activation_bytes(case)
