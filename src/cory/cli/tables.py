"""Measurements as tables for a terminal. No torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

MEASURES = (
    ("reward", "task_reward", "task_reward_ci95", "{:.3f}"),
    *((f"pass@{k}", f"pass@{k}", None, "{:.3f}") for k in range(1, 6)),
    ("KL (nats)", "kl", "kl_ci95", "{:z.3f}"),
    ("KL per token", "kl_per_token", None, "{:z.4f}"),
    ("entropy", "entropy", None, "{:.3f}"),
    ("distinct-1", "distinct_1", None, "{:.3f}"),
    ("distinct-2", "distinct_2", None, "{:.3f}"),
    ("unique", "unique_share", None, "{:.1%}"),
    ("perplexity", "ref_perplexity", None, "{:.2f}"),
    ("tokens", "completion_length", None, "{:.1f}"),
    ("train samples", "total_samples", None, "{:,.0f}"),
    ("train seconds", "total_seconds", None, "{:,.0f}"),
)
"""Row title, metric, metric of the half 95% interval, format."""

CAPTION = "± half a 95% interval; KL and perplexity are those of the initial model"
BIDIRECTIONAL_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def evaluation_table(title: str, columns: Mapping[str, Mapping[str, float]]) -> Table:
    """A row per measure, a column per model; measures that nobody has are left out."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=CAPTION,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for row, key, interval, form in MEASURES:
        if any(key in metrics for metrics in columns.values()):
            cells = (_cell(metrics, key, interval, form) for metrics in columns.values())
            table.add_row(row, *cells)
    return table


def _cell(metrics: Mapping[str, float], key: str, interval: str | None, form: str) -> str:
    if metrics.get(key) is None:
        return "–"
    text = form.format(metrics[key])
    if interval is None or metrics.get(interval) is None:
        return text
    return f"{text} ± {form.format(metrics[interval])}"


def print_table(table: Table, *, to_stderr: bool = False) -> None:
    """Print a table to standard output or error."""
    Console(stderr=to_stderr, highlight=False).print(table)


def printable(text: str) -> str:
    r"""Text of a model that may be sent to a terminal: no control characters but \n and \t.

    Escape sequences could otherwise recolour, move, or hide what a terminal shows.

    >>> printable("fine\x1b[2J\ttoo\x07")
    'fine[2J\ttoo'
    """
    return "".join(
        character
        for character in text
        if character in "\n\t"
        or not (unicodedata.category(character) == "Cc" or character in BIDIRECTIONAL_CONTROLS)
    )


def model_text(text: str) -> Text:
    """Model text for rich: printable, its brackets taken literally."""
    return Text(printable(text))
