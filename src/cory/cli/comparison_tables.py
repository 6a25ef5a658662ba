"""What a comparison found, as tables for a terminal."""

from __future__ import annotations

from operator import itemgetter

from rich.table import Table
from rich.text import Text

from cory.cli.tables import plain_table, print_table
from cory.io.terminal import model_text, write
from cory.report.results import MEAN, Results, Row, Setting

REWARD_PART = "reward/"
MEAN_OF_AGENTS = "mean of a team's agents"
DIFFERENCES = {
    "iterations": "",
    "samples": "_at_samples",
    "tokens": "_at_tokens",
    "seconds": "_at_seconds",
}
"""What is equal, and the end of the column's name in summary.csv."""


def print_tables(results: Results) -> None:
    """Print what a comparison found."""
    tables = [result_table(results)]
    if len(_reward_parts(results)) > 1:
        tables.append(reward_table(results))
    if len(results.arms) > 1:
        tables += [difference_table(results), frontier_table(results)]
    if len(results.learning_rates) > 1 or any(
        row["collapsed"] or row["failed"] for row in results.robustness
    ):
        tables.append(robustness_table(results))
    for table in tables:
        print_table(table)
        write("")


def result_table(results: Results) -> Table:
    """Every arm at its last iteration: each agent's reward, their mean KL, and what it cost."""
    agents = [agent for agent in results.agents if agent != MEAN]
    steps, seeds = (max(row[key] for row in results.summary) for key in ("step", "seeds"))
    table = _table(
        results,
        f"each agent alone, held out, after {steps} iterations",
        f"± half a 95% interval over {seeds} seeds; KL: mean of the agents",
        *agents,
        "KL",
        "samples",
        "seconds",
    )
    for mean in _means(results):
        ends = [results.ends.get((Setting.of(mean), agent)) for agent in agents]
        table.add_row(
            *_names(results, mean),
            *(_with_interval(end or {}, "task_reward") for end in ends),
            _with_interval(mean, "kl"),
            f"{mean['total_samples']:,.0f}",
            f"{mean['total_seconds']:,.0f}",
        )
    return table


def reward_table(results: Results) -> Table:
    """What every arm would earn by each single reward function, whatever it is paid by."""
    parts = _reward_parts(results)
    names = [name.removeprefix(REWARD_PART) for name in parts]
    table = _table(results, "held out, by each reward function", MEAN_OF_AGENTS, *names)
    for mean in _means(results):
        table.add_row(*_names(results, mean), *(_with_interval(mean, part) for part in parts))
    return table


def difference_table(results: Results) -> Table:
    """Differences in reward to the baseline, at equal iterations and at equal cost."""
    table = _table(
        results,
        f"reward less that of {results.baseline}, at equal …",
        f"{MEAN_OF_AGENTS}, paired by seed; bold: the 95% interval does not hold 0",
        *DIFFERENCES,
    )
    for mean in _means(results):
        if mean["arm"] != results.baseline:
            columns = [f"task_reward_difference{suffix}" for suffix in DIFFERENCES.values()]
            table.add_row(*_names(results, mean), *(_difference(mean, name) for name in columns))
    return table


def frontier_table(results: Results) -> Table:
    """Differences in KL, and the hypervolume of the reward–KL frontier."""
    reference = results.frontier[0]
    table = _table(
        results,
        "reward against KL",
        f"hypervolume: above reward {_with_interval(reference, 'reference_reward')} and below KL "
        f"{_with_interval(reference, 'reference_kl')}, over all iterations and KL coefficients",
        f"KL less {results.baseline}'s",
        "hypervolume",
        f"less {results.baseline}'s",
    )
    place = itemgetter("arm", "learning_rate", "agent")
    volumes = {place(row): row for row in results.frontier}
    for row in results.summary:
        if row["agent"] in (MEAN, "merged"):
            volume = volumes.get(place(row), {})
            name = row["arm"] if row["agent"] == MEAN else f"{row['arm']}, merged"
            table.add_row(
                *_names(results, {**row, "arm": name}),
                _difference(row, "kl_difference"),
                _with_interval(volume, "hypervolume"),
                _difference(volume, "hypervolume_difference"),
            )
    return table


def robustness_table(results: Results) -> Table:
    """How many runs of each arm came through, by KL coefficient and learning rate."""
    table = _table(
        results,
        "runs that came through",
        "collapsed: repeats itself, has left the initial model's language, or earns less than it",
        "survived",
        "collapsed",
        "failed",
    )
    for row in results.robustness:
        survived = row["runs"] - row["collapsed"] - row["failed"]
        counts = (f"{survived} of {row['runs']}", str(row["collapsed"]), str(row["failed"]))
        table.add_row(*_names(results, row), *counts)
    return table


def _means(results: Results) -> list[Row]:
    return [row for row in results.summary if row["agent"] == MEAN]


def _reward_parts(results: Results) -> list[str]:
    """Columns of single reward functions."""
    return [
        name
        for name in results.summary[0]
        if name.startswith(REWARD_PART) and not name.endswith("_interval")
    ]


def _names(results: Results, row: Row) -> list[str | Text]:
    """The arm, and its place on the axes that have more than one value."""
    return [model_text(row["arm"]), *(f"{row[name]:g}" for name in results.axes)]


def _table(results: Results, title: str, caption: str, *columns: str) -> Table:
    """A table without rows; its first columns are those of `_names`."""
    table = plain_table(title, caption)
    for index, column in enumerate(("arm", *results.axes.values(), *columns)):
        table.add_column(
            model_text(column), justify="right" if index else "left", no_wrap=not index
        )
    return table


def _with_interval(row: Row, name: str) -> str:
    """`0.912 ± 0.010`, without the interval of a single seed; a dash where nothing was measured."""
    value, half_width = row.get(name), row.get(f"{name}_interval")
    if value is None:
        return "–"
    return f"{value:z.3f}" + (f" ± {half_width:.3f}" if half_width is not None else "")


def _difference(row: Row, name: str) -> str | Text:
    """The same with its sign; an interval that does not hold 0 makes it bold."""
    value, half_width = row.get(name), row.get(f"{name}_interval")
    if value is None:
        return "–"
    if half_width is None:
        return f"{value:+z.3f}"
    return Text(f"{value:+z.3f} ± {half_width:.3f}", "bold" if abs(value) > half_width else "")
