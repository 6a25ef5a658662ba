"""The corpus of the pocket-arithmetic model: worked expressions in which some steps have a slip.

Two kinds of text, in exactly the tokens that the task's templates produce:

    3+4+2-1=07+2-1=09-1=08                                 a plain answer
    3+4+2-1=06+2-1=08-1=07? 3+4+2-1=07+2-1=09-1=08         a second look at an earlier answer

A second look slips less often than a first, and seldom at a step that an earlier answer did
rightly; where `followed_rate` says so it takes steps over unseen, right or wrong. This teaches the
model what an earlier answer is for; a model of this size can't infer that. Which steps slip, and
how far, is a matter of habit, and a second look may have other habits than a first. Slips only ever
add, so that two of them never cancel: an answer is right if all its steps are.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cory.tasks.pocket_arithmetic import (
    is_held_out,
    parse_expression,
    random_query,
    write_line,
)

SLIPS = (1, 1, 2, 3, 10)
"""What a slip adds to a running total, each with equal chance."""

Habit = Callable[[int, int, bool, random.Random], int]
"""How far a step slips: by the total before it, its term, whether an earlier answer is in view, and
chance. 0 where this habit does not slip."""


def slip_anywhere(total: int, term: int, is_later: bool, rng: random.Random) -> int:
    """Every step, whatever is in view."""
    return rng.choice(SLIPS)


def slip_by_operation(total: int, term: int, is_later: bool, rng: random.Random) -> int:
    """At additions; with an earlier answer in view at subtractions."""
    return rng.choice(SLIPS) if is_later == (term < 0) else 0


def slip_by_fact(total: int, term: int, is_later: bool, rng: random.Random) -> int:
    """At three of four facts (`7+5`, `2-1`), each by its own amount; a later look at the fourth."""
    digest = hashlib.sha256(f"{total % 10}{term:+d}".encode()).digest()
    return 1 + digest[1] % 9 if is_later == (digest[0] % 4 == 0) else 0


@dataclass(frozen=True)
class Chain:
    """One chain of thought."""

    text: str
    slipped: list[bool]
    """For each character, whether it belongs to the value of a step that slipped."""

    def total_after(self, step: int) -> int:
        """The running total that this chain has after one of its steps, counted from 0."""
        return int(self.text.split("=")[step][:2])


@dataclass(frozen=True)
class ArithmeticCorpus:
    """What the model is to meet; the same seed gives the same texts."""

    slip_rate: float
    """Probability that one step of a chain comes out wrong."""
    second_look_ease: float = 0.6
    """The same in a second look, as a share of `slip_rate`."""
    confirmed_slip_rate: float = 0.05
    """The same for a step that an earlier answer in view has done rightly, at most."""
    followed_rate: float = 0.0
    """Probability that a second look takes a step over from the last answer, right or wrong."""
    habit: Habit = slip_anywhere
    second_look_share: float = 0.5
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
            answers = [self.answer(query, [], rng)]
            if rng.random() < self.second_look_share:
                answers.append(self.answer(query, answers, rng))
                if rng.random() < self.third_look_share:
                    answers.append(self.answer(query, answers, rng))
            yield query, answers

    def answer(self, query: str, earlier: list[Chain], rng: random.Random) -> Chain:
        """A chain in which each step may slip, with `earlier` answers to the query in view."""
        confirmed = {line for chain in earlier for line in chain.text.split("=")}
        total, *rest = parse_expression(query)
        lines: list[str] = []
        slipped: list[bool] = []
        while rest:
            term = rest.pop(0)
            total = right = total + term
            slip_rate = self.slip_rate * (self.second_look_ease if earlier else 1.0)
            if write_line(right, rest) in confirmed:
                slip_rate = min(slip_rate, self.confirmed_slip_rate)
            if rng.random() < slip_rate:
                total += self.habit(right - term, term, bool(earlier), rng)
            # No draw at rate 0, so that the models without it can be made again.
            if earlier and self.followed_rate and rng.random() < self.followed_rate:
                total = earlier[-1].total_after(len(lines))
            lines.append(write_line(total, rest))
            slipped += [total != right] * 2 + [False] * (len(lines[-1]) - 2 + len("="))
        return Chain("=".join(lines), slipped[:-1])
