"""What stands on a page, in order; the page's own files say how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cory.report.figures import Figure
from cory.report.measures import Measure


@dataclass(frozen=True)
class Cell:
    """What is shown, and what it is sorted by; None comes last."""

    text: str
    value: float | str | None = None


@dataclass(frozen=True)
class Column:
    """`is_text` is True where cells are words: these stand on the left."""

    title: str
    is_text: bool = False


@dataclass(frozen=True)
class Table:
    """Columns and rows under a caption; `is_folded` is True where it opens on demand only."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    is_folded: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, then figures and tables."""

    key: str
    title: str
    note: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class Contents:
    """A whole page, of a `run` or a `comparison`.

    Args:
        facts: what one wants to know first, by its name.
        verdict: the outcome in a sentence or two; "" if there is none.
        sections: in order; the browser of answers comes after them.
        runs: run directories whose answers can be browsed, by the name to show.
        appendix: sections after the answers.
    """

    kind: str
    title: str
    facts: Mapping[str, str]
    sections: Sequence[Section]
    runs: Mapping[str, Path]
    appendix: Sequence[Section] = ()
    verdict: str = ""


def without_empty(sections: Iterable[Section]) -> list[Section]:
    """The sections with a table or a figure, and of their figures those with a panel."""
    drawn = (replace(each, figures=[f for f in each.figures if f.panels]) for each in sections)
    return [section for section in drawn if section.tables or section.figures]


def words(text: str) -> Cell:
    """A cell of words."""
    return Cell(text, text)


def measured(
    measure: Measure, row: Mapping[str, Any], key: str | None = None, interval: str | None = None
) -> Cell:
    """The number in the column `key`, else the measure's own, ± that in the column `interval`."""
    value = row.get(key or measure.key)
    return Cell(measure.write(value, row.get(interval or f"{key or measure.key}_interval")), value)


def table_of(caption: str, lines: Sequence[Mapping[Column, Cell]]) -> Table:
    """A table from rows that have the same columns."""
    return Table(caption, list(lines[0]), [list(line.values()) for line in lines])


def table_of_words(
    caption: str, titles: Sequence[str], rows: Sequence[Sequence[str]], *, is_folded: bool = False
) -> Table:
    """A table of words only."""
    cells = [list(map(words, row)) for row in rows]
    return Table(caption, [Column(title, is_text=True) for title in titles], cells, is_folded)
