"""A table of the results: rows of arms, columns of what is said of them, as Markdown."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.results.columns import Column, Row
from scripts.results.evaluations import Evaluations

MOST_COLUMNS = 6


@dataclass(frozen=True)
class Table:
    """Arms by what is measured of them.

    Attributes:
        name: how a page asks for it.
        first: heading of the first column.
        rows: the arms.
        columns: what is said of each.
    """

    name: str
    first: str
    rows: Sequence[Row]
    columns: Sequence[Column]

    def render(self, experiments: Mapping[str, Evaluations]) -> str:
        """The table as Markdown.

        A row of fewer seeds than most says so in its first column, unless a column does.
        """
        most = max(self._seeds(row, experiments) for row in self.rows)
        names_seeds = any(column.heading == "seeds" for column in self.columns)
        lines = []
        for row in self.rows:
            found = experiments[row.experiment]
            label, seeds = row.label or f"`{row.arm}`", self._seeds(row, experiments)
            if seeds < most and not names_seeds:
                label += f" ({seeds} seed{'s' if seeds > 1 else ''})"
            lines.append([label, *(column.cell(row, found) for column in self.columns)])
        return markdown([self.first, *(column.heading for column in self.columns)], lines)

    def _seeds(self, row: Row, experiments: Mapping[str, Evaluations]) -> int:
        return len(experiments[row.experiment].at_end(row.arm, row.agent, "reward"))


@dataclass(frozen=True)
class Copied:
    """A CSV file as it stands: what was measured by other commands than `cory compare`.

    Attributes:
        name: how a page asks for it.
        path: the file.
        columns: headings by the file's column, in their order here.
    """

    name: str
    path: Path
    columns: Mapping[str, str]

    def render(self, experiments: Mapping[str, Evaluations]) -> str:
        """The table as Markdown; it asks nothing of the experiments."""
        with self.path.open(newline="") as file:
            rows = [[_plain(row[key]) for key in self.columns] for row in csv.DictReader(file)]
        return markdown(list(self.columns.values()), rows)


def _plain(text: str) -> str:
    """A cell with a true minus sign."""
    return "−" + text[1:] if text.startswith("-") else text


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    Raises:
        ValueError: it has more columns than a reader can follow.

    >>> print(markdown(["arm", "reward"], [["ppo", "0.9"]]))
    | arm | reward |
    |---|---|
    | ppo | 0.9 |
    """
    if len(headings) > MOST_COLUMNS:
        raise ValueError(
            f"a table has {len(headings)} columns ({', '.join(headings)}); "
            f"the most is {MOST_COLUMNS}: split it"
        )
    lines = [headings, *rows]
    texts = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([texts[0], "|" + "---|" * len(headings), *texts[1:]])
