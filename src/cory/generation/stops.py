"""Texts that end an answer, whatever tokens write them.

The text of an answer decides, as its tokens are decoded together: a token may hold the end of a
stop string and more, and a character may take several tokens. Every way to sample looks here, so
all of them end an answer at the same token.

Legend: B sequences, T response columns.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

Decode = Callable[[Sequence[Sequence[int]]], list[str]]
"""Texts of answers, without special tokens."""
WIDER = 32
"""Tokens behind which a stop string is looked for, beyond its bytes: more than between two looks,
and some that have no text."""


def _no_texts(rows: Sequence[Sequence[int]]) -> list[str]:
    return [""] * len(rows)


@dataclass(frozen=True)
class StopStrings:
    """Texts that end an answer; without any, none does.

    Args:
        texts: none of them empty.
        decode: of the tokenizer.
    """

    texts: tuple[str, ...] = ()
    decode: Decode = _no_texts

    def are_in(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        """Whether the text of each answer holds a stop string."""
        return [any(stop in text for stop in self.texts) for text in self.decode(rows)]

    def cut(self, rows: Sequence[list[int]]) -> list[list[int]]:
        """Answers up to and including the token that completes a stop string."""
        if not self.texts:
            return list(rows)
        return [
            self._shortest(row) if is_in else row
            for row, is_in in zip(rows, self.are_in(rows), strict=True)
        ]

    def _shortest(self, row: list[int]) -> list[int]:
        """The shortest beginning of an answer that holds a stop string, which the answer does."""
        lengths = range(1, len(row))
        return row[: 1 + bisect_left(lengths, True, key=lambda size: self.are_in([row[:size]])[0])]

    def keep_running(self, is_running: Bool[Tensor, " B"], tokens: Int[Tensor, "B T"]) -> None:
        """Set False, in place, where an answer that is running has come to a stop string.

        Args:
            is_running: whose further tokens are wanted.
            tokens: all that were drawn for these answers.
        """
        if not self.texts:
            return
        running = is_running.nonzero().flatten()
        window = WIDER + max(len(stop.encode()) for stop in self.texts)
        ends = tokens[running, -window:].tolist()
        near = running[self._rows_with(ends)]
        # The text of a part may begin with another character: the whole decides.
        is_running[near[self._rows_with(tokens[near].tolist())]] = False

    def _rows_with(self, rows: Sequence[Sequence[int]]) -> list[int]:
        return [row for row, is_in in enumerate(self.are_in(rows)) if is_in]


NO_STOPS = StopStrings()
