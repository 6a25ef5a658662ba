"""Tables of a report: cells that are shown, and values that they are sorted by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cory.report.measures import TABLE, Measure


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


def words(text: str) -> Cell:
    """A cell of words."""
    return Cell(text, text)


def measured_columns(metrics: Sequence[Mapping[str, Any]]) -> list[Measure]:
    """The measures that somebody has."""
    return [
        measure for measure in TABLE if any(each.get(measure.key) is not None for each in metrics)
    ]


def results_table(caption: str, models: Mapping[str, Mapping[str, float | None]]) -> Table:
    """A row per model, a column per measure, ± half the 95% interval over queries.

    Args:
        caption: of the table.
        models: metrics of an evaluation by the name of the model.
    """
    measures = measured_columns(list(models.values()))
    rows = [
        [
            words(name),
            *(
                Cell(
                    measure.write(metrics.get(measure.key), metrics.get(measure.interval or "")),
                    metrics.get(measure.key),
                )
                for measure in measures
            ),
        ]
        for name, metrics in models.items()
    ]
    return Table(caption, [Column("model", True), *(Column(m.title) for m in measures)], rows)
