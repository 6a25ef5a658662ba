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
    write_expression,
)


@dataclass(frozen=True)
class Chain:
    """One chain of thought."""

    text: str
    slipped: list[bool]
    """For each character, whether it belongs to the value of a step that slipped."""


@dataclass(frozen=True)
class ArithmeticCorpus:
    """What the model is to meet; the same seed gives the same texts."""

    slip_rate: float
    """Probability that one step of a chain comes out wrong."""
    second_look_share: float = 0.4
    """Share of examples in which one or more earlier answers are in view."""
    third_look_share: float = 0.1
    """Share of those that show two earlier answers, as the third agent of a chain sees them."""

    def examples(self, seed: int) -> Iterator[tuple[str, list[Chain]]]:
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

    def first_answer(self, query: str, rng: random.Random) -> Chain:
        """A chain in which every step slips with probability `slip_rate`."""
        numbers, operators = parse_expression(query)
        lines: list[str] = []
        slipped: list[bool] = []
        while operators:
            place, value = next_operation(numbers, operators)
            is_slip = rng.random() < self.slip_rate
            if is_slip:
                value = slip(value, rng)
            numbers[place : place + 2] = [value]
            del operators[place]
            lines.append(write_expression(numbers, operators))
            before = write_expression([*numbers[:place], 0], operators[:place])[:-1]
            after = len(lines[-1]) - len(before) - len(str(value)) + len("=")
            slipped += [False] * len(before) + [is_slip] * len(str(value)) + [False] * after
        return Chain("=".join(lines), slipped[:-1])

    def later_answer(self, query: str, answers: list[Chain], rng: random.Random) -> Chain:
        """The latest earlier answer that is right, else a new attempt."""
        truth = solve(query)
        right = [answer for answer in answers if final_value(answer.text) == truth]
        return right[-1] if right else self.first_answer(query, rng)


def slip(value: int, rng: random.Random) -> int:
    """A wrong value near the right one, not below zero unless that is."""
    offset = rng.choice([-1, 1, -1, 1, -2, 2, -10, 10])
    return value - offset if value >= 0 > value + offset else value + offset
