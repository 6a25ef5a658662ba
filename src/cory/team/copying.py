"""What an answer took over, word for word, from earlier answers: pure functions of texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

SHORTEST_COPY_IN_WORDS = 3
SHORTEST_COPY_IN_CHARACTERS = 4
WORD = re.compile(r"\w+(?:['’]\w+)*")
CHARACTER = re.compile(r"\S")


class _Unit(NamedTuple):
    """A word or a character: as it is compared, and where it stands."""

    text: str
    start: int
    end: int


def copied_spans(answer: str, earlier: Sequence[str]) -> list[tuple[int, int]]:
    """The pieces of an answer that also stand in an earlier one, as (start, end) characters.

    A word is copied if it belongs to a run of at least three words that stands in one of the
    earlier answers, too. Case and punctuation are left out of account. Texts without white space
    inside, as in arithmetic or Chinese, are compared by characters, in runs of at least four.

    >>> copied_spans("It is a dull film, sadly", ["They say it is a great film"])
    [(0, 7)]
    >>> copied_spans("03+4=07", ["13+4=07", "3+4=08"])
    [(1, 7)]
    """
    return [(run[0].start, run[-1].end) for copied, run in _runs(answer, earlier) if copied]


def copy_rate(answer: str, earlier: Sequence[str]) -> float:
    """Share of the words (or characters) of an answer that are copied; see `copied_spans`.

    >>> copy_rate("It is a dull film, sadly", ["They say it is a great film"])
    0.5
    """
    lengths = [(copied, len(run)) for copied, run in _runs(answer, earlier)]
    total = sum(length for _, length in lengths)
    return sum(length for copied, length in lengths if copied) / total if total else 0.0


def _runs(answer: str, earlier: Sequence[str]) -> Iterator[tuple[bool, list[_Unit]]]:
    """The units of an answer in runs of neighbours that are all copied or all not."""
    has_words = any(len(text.split()) > 1 for text in (answer, *earlier))
    pattern, size = (
        (WORD, SHORTEST_COPY_IN_WORDS) if has_words else (CHARACTER, SHORTEST_COPY_IN_CHARACTERS)
    )
    units = _units(answer, pattern)
    sources = {ngram for text in earlier for ngram in _ngrams(_units(text, pattern), size)}
    copied = {
        position
        for start, ngram in enumerate(_ngrams(units, size))
        if ngram in sources
        for position in range(start, start + size)
    }
    for is_copied, run in groupby(enumerate(units), key=lambda numbered: numbered[0] in copied):
        yield is_copied, [unit for _, unit in run]


def _units(text: str, pattern: re.Pattern[str]) -> list[_Unit]:
    return [_Unit(found[0].casefold(), *found.span()) for found in pattern.finditer(text)]


def _ngrams(units: Sequence[_Unit], size: int) -> Iterator[tuple[str, ...]]:
    texts = [unit.text for unit in units]
    return zip(*(texts[offset:] for offset in range(size)), strict=False)
