"""What a comparison found, as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from cory.cli.tables import plain_table, print_table
from cory.io.terminal import model_text, write

Row = Mapping[Hashable, Any]
AXES = (("kl_coef", "η"), ("learning_rate", "lr"))
DERIVED = ("mean", "worst")
REWARD_PART = "reward/"
MEAN = "mean of a team's agents"
DIFFERENCES = {
    "iterations": "",
    "samples": "_at_samples",
    "tokens": "_at_tokens",
    "seconds": "_at_seconds",
}
"""What is equal, and the end of the column's name in summary.csv."""


def print_tables(directory: Path, baseline: str) -> None:
    """Print the tables that are in the CSV files of a comparison."""
    summary = pd.read_csv(directory / "summary.csv")
    survivors = pd.read_csv(directory / "robustness.csv")
    tables = [result_table(summary)]
    if len(_reward_parts(summary)) > 1:
        tables.append(reward_table(summary))
    if summary["arm"].nunique() > 1:
        tables.append(difference_table(summary, baseline))
        frontier = pd.read_csv(directory / "frontier.csv")
        tables.append(frontier_table(summary, frontier, baseline))
    if survivors["learning_rate"].nunique() > 1 or (survivors["survived_share"] < 1).any():
        tables.append(robustness_table(survivors))
    for table in tables:
        print_table(table)
        write("")


def result_table(summary: pd.DataFrame) -> Table:
    """Every arm at its last iteration: each agent's reward, their mean KL, and what it cost."""
    agents = [name for name in summary["agent"].unique() if name not in DERIVED]
    axes = _axes(summary)
    table = _table(
        f"each agent alone, held out, after {summary['step'].max()} iterations",
        f"± half a 95% interval over {summary['seeds'].max()} seeds; KL: mean of the agents",
        "arm",
        *(label for _, label in axes),
        *agents,
        "KL",
        "samples",
        "seconds",
    )
    for (arm, _, _), rows in summary.groupby(["arm", "kl_coef", "learning_rate"], sort=False):
        by_agent = {row["agent"]: row for row in rows.to_dict("records")}
        mean = by_agent["mean"]
        table.add_row(
            model_text(str(arm)),
            *(f"{mean[name]:g}" for name, _ in axes),
            *(_with_interval(by_agent.get(agent, {}), "task_reward") for agent in agents),
            _with_interval(mean, "kl"),
            f"{mean['total_samples']:,.0f}",
            f"{mean['total_seconds']:,.0f}",
        )
    return table


def reward_table(summary: pd.DataFrame) -> Table:
    """What every arm would earn by each single reward function, whatever it is paid by."""
    axes = _axes(summary)
    parts = _reward_parts(summary)
    names = [name.removeprefix(REWARD_PART) for name in parts]
    labels = [label for _, label in axes]
    table = _table("held out, by each reward function", MEAN, "arm", *labels, *names)
    for mean in _means(summary):
        table.add_row(
            model_text(mean["arm"]),
            *(f"{mean[name]:g}" for name, _ in axes),
            *(_with_interval(mean, part) for part in parts),
        )
    return table


def difference_table(summary: pd.DataFrame, baseline: str) -> Table:
    """Differences in reward to the baseline, at equal iterations and at equal cost."""
    axes = _axes(summary)
    table = _table(
        f"reward less that of {baseline}, at equal …",
        f"{MEAN}, paired by seed; bold: the 95% interval does not hold 0",
        "arm",
        *(label for _, label in axes),
        *DIFFERENCES,
    )
    for mean in _means(summary, baseline):
        table.add_row(
            model_text(mean["arm"]),
            *(f"{mean[name]:g}" for name, _ in axes),
            *(
                _difference(mean, f"task_reward_difference{suffix}")
                for suffix in DIFFERENCES.values()
            ),
        )
    return table


def frontier_table(summary: pd.DataFrame, frontier: pd.DataFrame, baseline: str) -> Table:
    """Differences in KL, and the hypervolume of the reward–KL frontier."""
    axes = _axes(summary)
    reference = frontier.iloc[0]
    table = _table(
        "reward against KL",
        f"hypervolume: above reward {reference['reference_reward']:.3f} and below KL "
        f"{reference['reference_kl']:.3f}, over all iterations and KL coefficients",
        "arm",
        *(label for _, label in axes),
        f"KL less {baseline}'s",
        "hypervolume",
        f"less {baseline}'s",
    )
    place = itemgetter("arm", "learning_rate", "agent")
    volumes = {place(row): row for row in frontier.to_dict("records")}
    for row in summary[summary["agent"].isin(["mean", "merged"])].to_dict("records"):
        volume = volumes.get(place(row), {})
        name = row["arm"] if row["agent"] == "mean" else f"{row['arm']}, merged"
        table.add_row(
            model_text(name),
            *(f"{row[name]:g}" for name, _ in axes),
            _difference(row, "kl_difference"),
            _with_interval(volume, "hypervolume"),
            _difference(volume, "hypervolume_difference"),
        )
    return table


def robustness_table(survivors: pd.DataFrame) -> Table:
    """How many runs of each arm came through, by KL coefficient and learning rate."""
    axes = _axes(survivors)
    table = _table(
        "runs that came through",
        "collapsed: repeats itself, has left the initial model's language, or earns less than it",
        "arm",
        *(label for _, label in axes),
        "survived",
        "collapsed",
        "failed",
    )
    for row in survivors.to_dict("records"):
        survived = row["runs"] - row["collapsed"] - row["failed"]
        table.add_row(
            model_text(row["arm"]),
            *(f"{row[name]:g}" for name, _ in axes),
            f"{survived} of {row['runs']}",
            str(row["collapsed"]),
            str(row["failed"]),
        )
    return table


def _means(summary: pd.DataFrame, but: str | None = None) -> list[dict[Hashable, Any]]:
    """The rows of `mean`, without those of one arm."""
    return summary[(summary["agent"] == "mean") & (summary["arm"] != but)].to_dict("records")


def _reward_parts(summary: pd.DataFrame) -> list[str]:
    """Columns of single reward functions."""
    return [
        str(name)
        for name in summary.columns
        if str(name).startswith(REWARD_PART) and not str(name).endswith("_interval")
    ]


def _axes(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The axes that have more than one value."""
    return [(name, label) for name, label in AXES if table[name].nunique() > 1]


def _table(title: str, caption: str, *columns: str) -> Table:
    table = plain_table(title, caption)
    for index, column in enumerate(columns):
        table.add_column(
            model_text(column), justify="right" if index else "left", no_wrap=not index
        )
    return table


def _with_interval(row: Row, name: str) -> str:
    """`0.912 ± 0.010`, without the interval of a single seed; a dash where nothing was measured."""
    if not _is_known(row, name):
        return "–"
    text = f"{row[name]:.3f}"
    return f"{text} ± {row[f'{name}_interval']:.3f}" if _is_known(row, f"{name}_interval") else text


def _difference(row: Row, name: str) -> str | Text:
    """The same with its sign; an interval that does not hold 0 makes it bold."""
    if not _is_known(row, name):
        return "–"
    text = f"{row[name]:+.3f}"
    if not _is_known(row, f"{name}_interval"):
        return text
    half_width = row[f"{name}_interval"]
    text = f"{text} ± {half_width:.3f}"
    return Text(text, style="bold" if abs(row[name]) > half_width else "")


def _is_known(row: Row, name: str) -> bool:
    return name in row and not math.isnan(row[name])
