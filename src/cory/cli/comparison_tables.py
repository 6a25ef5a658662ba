"""What a comparison found, as tables for a terminal."""

from __future__ import annotations

from operator import itemgetter

from rich.table import Table
from rich.text import Text

from cory.cli.tables import plain_table, print_table
from cory.io.terminal import model_text, write
from cory.report.results import MEAN, Results, Row, Setting, in_common

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
        tables += [difference_table(results, reward) for reward in results.rewards]
        tables += [frontier_table(results, reward) for reward in results.rewards]
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
    means = _means(results)
    step, seeds = in_common(means, "step"), in_common(means, "seeds")
    own = "" if results.rewards == ["task_reward"] else ", each arm by its own reward"
    rests_on = {"step": "iterations"} if step is None else {}
    rests_on |= {"seeds": "seeds"} if seeds is None else {}
    table = _table(
        results,
        f"each agent alone, held out{own}" + (f", after {step} iterations" if step else ""),
        f"{_interval_note(seeds)}; KL: mean of the agents",
        *rests_on.values(),
        *agents,
        "KL",
        "samples",
        "seconds",
    )
    for mean in means:
        ends = [results.ends.get((Setting.of(mean), agent)) for agent in agents]
        table.add_row(
            *_names(results, mean),
            *(str(mean[key]) for key in rests_on),
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


def difference_table(results: Results, reward: str) -> Table:
    """Differences in a reward to the baseline, at equal iterations and at equal cost."""
    rows = [mean for mean in _means(results) if mean["arm"] != results.baseline]
    pairs = in_common(rows, "pairs")
    is_early = any(row["pairs"] and row["difference_step"] != row["step"] for row in rows)
    rests_on = {"difference_step": "compared after"} if is_early else {}
    rests_on |= {"pairs": "pairs"} if pairs is None else {}
    shared = "" if pairs is None else f" ({_count(pairs)} {'pair' if pairs == 1 else 'pairs'})"
    table = _table(
        results,
        f"{_title(reward)} less that of {results.baseline}, at equal …",
        f"{MEAN_OF_AGENTS}, paired by seed{shared}; bold: the 95% interval does not hold 0",
        *rests_on.values(),
        *DIFFERENCES,
    )
    for row in rows:
        columns = [f"{reward}_difference{suffix}" for suffix in DIFFERENCES.values()]
        table.add_row(
            *_names(results, row),
            *(_count(row.get(key)) for key in rests_on),
            *(_difference(row, name) for name in columns),
        )
    return table


def frontier_table(results: Results, reward: str) -> Table:
    """Differences in KL, and the hypervolume of the frontier of a reward against KL."""
    rows = [row for row in results.frontier if row["reward"] == reward]
    title, reference, seeds = _title(reward), rows[0], in_common(rows, "seeds")
    of_seeds = "" if seeds is None else f" ({seeds} {'seed' if seeds == 1 else 'seeds'})"
    table = _table(
        results,
        f"{title} against KL",
        f"hypervolume: above {title} {_with_interval(reference, 'reference_reward')} and below KL "
        f"{_with_interval(reference, 'reference_kl')}, over all iterations and KL coefficients of "
        f"the runs that came to their end{of_seeds}",
        f"KL less {results.baseline}'s",
        *(["seeds"] if seeds is None else []),
        "hypervolume",
        f"less {results.baseline}'s",
    )
    place = itemgetter("arm", "learning_rate", "agent")
    volumes = {place(row): row for row in rows}
    for row in results.summary:
        if row["agent"] in (MEAN, "merged"):
            volume = volumes.get(place(row), {})
            name = row["arm"] if row["agent"] == MEAN else f"{row['arm']}, merged"
            table.add_row(
                *_names(results, {**row, "arm": name}),
                _difference(row, "kl_difference"),
                *([_count(volume.get("seeds"))] if seeds is None else []),
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


def _interval_note(seeds: int | None) -> str:
    """What stands behind ±, by the number of seeds; None: it differs from row to row."""
    if seeds == 1:
        return "one seed, so no intervals"
    return f"± half a 95% interval over {'the' if seeds is None else seeds} seeds"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _title(reward: str) -> str:
    return "reward" if reward == "task_reward" else reward.removeprefix(REWARD_PART)


def _means(results: Results) -> list[Row]:
    return [row for row in results.summary if row["agent"] == MEAN]


def _reward_parts(results: Results) -> list[str]:
    """Columns of single reward functions."""
    if results.rewards != ["task_reward"]:
        return results.rewards
    names = [name for name in results.summary[0] if name.startswith(REWARD_PART)]
    return [name for name in names if name.removesuffix("_interval") not in {*names} - {name}]


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
