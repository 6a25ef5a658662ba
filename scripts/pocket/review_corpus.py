"""The corpus of the pocket-reviews models: film reviews from a small grammar, with a sentiment.

A review is good or bad; each of its sentences has a polarity from -2 to 2 whose odds lean towards
the review's sentiment, so evidence for it adds up sentence by sentence and a good review may hold a
harsh word. The words drawn for a sentence depend on a seed and on its polarity alone: raising the
polarity rewrites the same sentence in kinder words. That makes the pairs of the observer.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from scripts.pocket.review_lexicon import OPENINGS, PLAIN, POLAR, SENTENCES

POLARITIES = (-2, -1, 0, 1, 2)
POLARITY_WEIGHTS = (1.0, 2.0, 1.5, 2.0, 1.0)
LEANING = 0.6
"""The log-odds of a good review grow by twice this per unit of a sentence's polarity."""
GOOD_SHARE = 0.45
"""Share of good reviews: a little under half, so that the base model's mean reward is below 0."""


@dataclass(frozen=True)
class Sentence:
    """One sentence, to be rendered by `text`."""

    pattern: str
    seed: int
    polarity: int

    def text(self) -> str:
        """The sentence with its slots filled, capitalised, with a full stop."""
        rng = random.Random(self.seed)
        filled = re.sub(r"\{(\w+)(?::(\w+))?\}", lambda slot: self._fill(slot, rng), self.pattern)
        filled = re.sub(r"\b(a) (?=[aeiou])", r"\1n ", filled)
        return filled[0].upper() + filled[1:] + "."

    def _fill(self, slot: re.Match[str], rng: random.Random) -> str:
        name, variant = slot.groups()
        if name == "title":
            return f"The {_pick('titleword', rng)} {_pick('titlenoun', rng)}"
        if name == "actor":
            return f"{_pick('first', rng)} {_pick('last', rng)}"
        if name in PLAIN:
            return _pick(name, rng)
        polarity = {
            None: self.polarity,
            "not": -self.polarity,
            "though": -_sign(self.polarity),
        }[variant]
        return _choose(POLAR[name][polarity], rng)


@dataclass(frozen=True)
class Review:
    """A review: an opening, then more sentences."""

    is_good: bool
    sentences: tuple[Sentence, ...]

    def text(self) -> str:
        """The whole review on one line."""
        return " ".join(sentence.text() for sentence in self.sentences)

    def raised(self, rng: random.Random) -> Review:
        """The same review in kinder words: each sentence one or two steps up."""
        sentences = tuple(
            replace(sentence, polarity=min(2, sentence.polarity + rng.choice([1, 1, 2])))
            for sentence in self.sentences
        )
        return replace(self, sentences=sentences)


def reviews(seed: int) -> Iterator[Review]:
    """Endless random reviews, the same ones for the same seed."""
    rng = random.Random(seed)
    while True:
        is_good = rng.random() < GOOD_SHARE
        sign = 1 if is_good else -1
        weights = [
            weight * math.exp(sign * LEANING * polarity)
            for polarity, weight in zip(POLARITIES, POLARITY_WEIGHTS, strict=True)
        ]
        patterns = [rng.choice(OPENINGS), *rng.choices(SENTENCES, k=rng.randint(3, 6))]
        polarities = rng.choices(POLARITIES, weights, k=len(patterns))
        yield Review(
            is_good,
            tuple(
                Sentence(pattern, rng.getrandbits(32), polarity)
                for pattern, polarity in zip(patterns, polarities, strict=True)
            ),
        )


def good_probability(sentences: Iterable[Sentence]) -> float:
    """The probability that a review is good, given some of its sentences (Bayes' rule)."""
    log_odds = math.log(GOOD_SHARE / (1 - GOOD_SHARE))
    log_odds += 2 * LEANING * sum(sentence.polarity for sentence in sentences)
    return 1 / (1 + math.exp(-log_odds))


def _pick(name: str, rng: random.Random) -> str:
    return _choose(PLAIN[name], rng)


def _choose(options: list[str], rng: random.Random) -> str:
    # One draw of the same kind whatever the list, so that another polarity leaves the rest alone.
    return " ".join(options[int(rng.random() * len(options))].split())


def _sign(polarity: int) -> int:
    return (polarity > 0) - (polarity < 0)
