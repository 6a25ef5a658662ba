"""The corpus of the pocket-arithmetic model: worked expressions in which some steps have a slip.

Two kinds of text, in exactly the tokens that the task's templates produce:

    3+4*2-1=3+8-1=11-1=10                                     a plain answer
    3+4*2-1=3+9-1=12-1=11? 3+4*2-1=3+8-1=11-1=10              a second look at an earlier answer

A second look keeps an answer that is right and otherwise starts afresh, and may slip again. The
second kind teaches the model what an earlier answer is for; a model of this size can't infer that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from cory.tasks.pocket_arithmetic import (
    final_value,
    is_held_out,
    next_operation,
    parse_expression,
    random_query,
    solve,
)


@dataclass(frozen=True)
class ArithmeticCorpus:
    """What the model is to meet; the same seed gives the same texts."""

    slip_rate: float
    """Probability that one step of a chain comes out wrong."""
    second_look_share: float = 0.4
    """Share of examples in which one or more earlier answers are in view."""
    third_look_share: float = 0.15
    """Share of those that show two earlier answers, as the third agent of a chain sees them."""

    def examples(self, seed: int) -> Iterator[tuple[str, list[str]]]:
        """Endless pairs of a query of the training split and its answers, in order."""
        rng = random.Random(seed)
        while True:
            query = random_query(rng)
            if is_held_out(query):
                continue
            answers = [self.first_answer(query, rng)]
            if rng.random() < self.second_look_share:
                answers.append(self.later_answer(query, answers, rng))
                if rng.random() < self.third_look_share:
                    answers.append(self.later_answer(query, answers, rng))
            yield query, answers

    def first_answer(self, query: str, rng: random.Random) -> str:
        """A chain of thought in which every step slips with probability `slip_rate`."""
        terms = parse_expression(query)
        lines = []
        while len(terms) > 1:
            position, value = next_operation(terms)
            if rng.random() < self.slip_rate:
                value = slip(value, is_product=terms[position] == "*", rng=rng)
            terms[position - 1 : position + 2] = [value]
            lines.append("".join(map(str, terms)))
        return "=".join(lines)

    def later_answer(self, query: str, answers: list[str], rng: random.Random) -> str:
        """The latest earlier answer that is right, else a new attempt."""
        truth = solve(query)
        right = [answer for answer in answers if final_value(answer) == truth]
        return right[-1] if right else self.first_answer(query, rng)


def slip(value: int, *, is_product: bool, rng: random.Random) -> int:
    """A wrong value near the right one: off by one, two or ten, or the wrong sign."""
    offset = rng.choice([-1, 1, -1, 1, -2, 2, -10, 10])
    if is_product:
        # A product follows an operator in the text, where a minus sign could not be read.
        return value + offset if value + offset >= 0 else value - offset
    return -value if value and rng.random() < 0.15 else value + offset
