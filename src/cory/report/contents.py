"""What stands on a page, in order; how it looks is the page's own business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cory.report.figures import Figure
from cory.report.tables import Table


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, then figures and tables; one with neither is left out."""

    key: str
    title: str
    note: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()

    @property
    def is_empty(self) -> bool:
        return not self.tables and all(figure.is_empty for figure in self.figures)


@dataclass(frozen=True)
class Contents:
    """A whole page.

    Args:
        kind: `run` or `comparison`.
        title: of the page.
        facts: what one wants to know first, by its name.
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
