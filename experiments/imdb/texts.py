"""Reviews as the imdb task reads them, and pairs of reviews that open with the same words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from datasets import Dataset

from cory.tasks.data import find_splits, require_columns

MIN_QUERY_TOKENS, MAX_QUERY_TOKENS = 2, 8
PAIR_DISTANCE = 8
"""Reviews this near to each other in alphabetical order (of their tokens) may be a pair."""


@dataclass(frozen=True)
class Reviews:
    """Cleaned texts of one split, and their labels: 1 positive, 0 negative, -1 unknown."""

    texts: list[str]
    labels: list[int]


def load_reviews(name: str, split: str, num_reviews: int | None) -> Reviews:
    """The first `num_reviews` (None: all) of a shuffled split.

    Raises:
        ValueError: there is no such data set, split or column.
    """
    splits = find_splits(name, None)
    if split not in splits:
        raise ValueError(
            f"Data set {name!r} has no split {split!r}, only {', '.join(splits)}; pass the Hub "
            "name stanfordnlp/imdb or a directory with train, test and unsupervised files."
        )
    dataset: Dataset = require_columns(splits[split](), ["text", "label"], name)
    # Published in the order of the labels.
    rows = random.Random(0).sample(range(len(dataset)), len(dataset))[:num_reviews]
    chosen = dataset.select(rows)
    return Reviews([clean(text) for text in chosen["text"][:]], list(chosen["label"][:]))


def clean(text: str) -> str:
    """Without line breaks and runs of spaces, as `cory.tasks.imdb` cuts its queries from it."""
    return " ".join(text.replace("<br />", " ").split())


def without(reviews: Reviews, held_out: Reviews) -> Reviews:
    """Those whose text is not, word for word, one of `held_out`."""
    known = set(held_out.texts)
    kept = [row for row, text in enumerate(reviews.texts) if text not in known]
    return Reviews([reviews.texts[row] for row in kept], [reviews.labels[row] for row in kept])


@dataclass(frozen=True)
class Pair:
    """Two real openings that begin with the same `num_query_tokens` tokens, as rows."""

    worse: int
    better: int
    num_query_tokens: int


class PairSource:
    """Draws pairs of openings with a common beginning, the less positive one first.

    Openings are sorted by their tokens, so that neighbours have most in common: often more than the
    query, which is what makes a reference worth looking at.

    Args:
        openings: token ids of the openings.
        scores: how positive each is.
        seed: of the draws.
    """

    def __init__(
        self, openings: Sequence[Sequence[int]], scores: Sequence[float], seed: int
    ) -> None:
        self.openings = openings
        self.scores = scores
        self.order = sorted(range(len(openings)), key=lambda row: list(openings[row]))
        self.rng = random.Random(seed)

    def draw(self, max_tries: int = 1000) -> Pair:
        """A pair whose query is 2 to 8 tokens long.

        Raises:
            ValueError: hardly any two openings begin alike.
        """
        for _ in range(max_tries):
            place = self.rng.randrange(len(self.order) - 1)
            distance = self.rng.randint(1, PAIR_DISTANCE)
            first = self.order[place]
            second = self.order[min(place + distance, len(self.order) - 1)]
            num_common = common_prefix(self.openings[first], self.openings[second])
            if num_common < MIN_QUERY_TOKENS or self.scores[first] == self.scores[second]:
                continue
            worse, better = sorted((first, second), key=self.scores.__getitem__)
            longest = min(num_common, MAX_QUERY_TOKENS)
            return Pair(worse, better, self.rng.randint(MIN_QUERY_TOKENS, longest))
        raise ValueError(
            f"in {max_tries} tries no two of {len(self.openings)} reviews began with the same "
            f"{MIN_QUERY_TOKENS} tokens; use more reviews, or --pair_share 0"
        )


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two sequences begin with alike.

    >>> common_prefix([1, 2, 3], [1, 2, 4, 5])
    2
    """
    for place, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return place
    return min(len(first), len(second))
