"""Measurements as tables for a terminal. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich import box
from rich.table import Table

from cory.io.terminal import model_text, new_console

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


def plain_table(title: str, caption: str) -> Table:
    """A table without columns yet, whose titles may hold any text."""
    return Table(
        title=model_text(title),
        title_justify="left",
        title_style="bold",
        caption=model_text(caption),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def evaluation_table(title: str, columns: Mapping[str, Mapping[str, float]]) -> Table:
    """A row per measure, a column per model; measures that nobody has are left out."""
    table = plain_table(title, CAPTION)
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(model_text(name), justify="right")
    for row, key, interval, form in MEASURES:
        if any(key in metrics for metrics in columns.values()):
            cells = (_cell(metrics, key, interval, form) for metrics in columns.values())
            table.add_row(row, *cells)
    return table


def _cell(metrics: Mapping[str, float], key: str, interval: str | None, form: str) -> str:
    value = metrics.get(key)
    if value is None or math.isnan(value):
        return "–"
    text = form.format(value)
    if interval is None or metrics.get(interval) is None:
        return text
    return f"{text} ± {form.format(metrics[interval])}"


def print_table(table: Table, *, to_stderr: bool = False) -> None:
    """Print a table to standard output or error."""
    new_console(to_stderr=to_stderr).print(table)
