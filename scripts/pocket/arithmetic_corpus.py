"""The corpus of the pocket-arithmetic model: worked expressions in which some steps have a slip.

Two kinds of text, in exactly the tokens that the task's templates produce:

    3+4+2-1=7+2-1=9-1=8                                a plain answer
    3+4+2-1=6+2-1=8-1=7? 7+2-1=9-1=8                   a second look at an earlier answer

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
    parse_expression,
    random_query,
    solve,
    write_expression,
)


@dataclass(frozen=True)
class ArithmeticCorpus:
    """What the model is to meet; the same seed gives the same texts."""

    slip_rate: float
    """Probability that one step of a chain comes out wrong."""
    second_look_share: float = 0.6
    """Share of examples in which one or more earlier answers are in view."""
    third_look_share: float = 0.1
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
        lines: list[str] = []
        while len(terms) > 1:
            total = terms[0] + terms[1]
            if rng.random() < self.slip_rate:
                total = slip(total, rng)
            terms = [total, *terms[2:]]
            lines.append(write_expression(terms))
        return "=".join(lines)

    def later_answer(self, query: str, answers: list[str], rng: random.Random) -> str:
        """The latest earlier answer that is right, else a new attempt."""
        truth = solve(query)
        right = [answer for answer in answers if final_value(answer) == truth]
        return right[-1] if right else self.first_answer(query, rng)


def slip(total: int, rng: random.Random) -> int:
    """A wrong total near the right one, not below zero unless that is."""
    offset = rng.choice([-1, 1, -1, 1, -2, 2, -10, 10])
    return total - offset if total >= 0 > total + offset else total + offset
