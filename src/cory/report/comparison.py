"""A comparison as a page: arms against each other, every agent alone, over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cory.io.files import path_inside
from cory.report.comparison_figures import (
    curves_figure,
    frontier_figure,
    frontier_over_coefficients,
    robustness_figure,
    shown_agent,
)
from cory.report.contents import (
    Cell,
    Column,
    Contents,
    Section,
    Table,
    measured,
    table_of,
    table_of_words,
    without_empty,
    words,
)
from cory.report.measures import (
    HYPERVOLUME,
    KL,
    REWARD,
    Measure,
    duration,
    measured_columns,
    reward_measure,
    setting,
)
from cory.report.results import AGAIN, MEAN, Results, Row, Setting, in_common, read_results
from cory.report.verdicts import comparison_verdict

ARM, SEEDS = Column("arm", is_text=True), Column("seeds")


def describe_comparison(directory: Path) -> Contents:
    """Everything that a comparison's page shows.

    Raises:
        ValueError: what `cory compare` leaves is missing, older, or cannot be read.
    """
    results = read_results(directory)
    return Contents(
        kind="comparison",
        title=results.plan.get("title") or directory.resolve().name,
        facts=_facts(results),
        sections=without_empty(_sections(results)),
        runs={
            f"{results.name(Setting.of(row))} · seed {row['seed']}": path_inside(directory, run)
            for run, row in results.runs.items()
        },
        appendix=[Section("arms", "Arms and settings", "", tables=_plan_tables(results.plan))],
        verdict=comparison_verdict(results),
    )


def _sections(results: Results) -> list[Section]:
    return [
        Section(
            "summary",
            "Summary",
            "Every model alone on held-out queries at its last evaluation: mean over seeds ± half "
            "its 95% interval (Student's t). Differences are paired by seed. Runs that were cut "
            f"off are left out. {_paid_differently(results)}Click a heading to sort.",
            tables=summary_tables(results),
        ),
        Section(
            "curves",
            "Held-out curves",
            "Means over seeds with 95% bands. Arms that sample more per iteration are compared "
            "fairly over samples, tokens or seconds.",
            figures=[curves_figure(results)],
        ),
        Section(
            "frontier",
            "Reward and KL",
            "The two aims of training against each other; up and to the left is better.",
            figures=[frontier_figure(results), frontier_over_coefficients(results)],
            tables=frontier_tables(results),
        ),
        Section(
            "robustness",
            "Robustness",
            "Share of runs that did not collapse; a run counts as collapsed if one of its agents "
            "is.",
            figures=[robustness_figure(results)],
        ),
    ]


def summary_tables(results: Results) -> list[Table]:
    """Reward and KL, with their differences to the baseline arm; then everything else."""
    rows = [
        row
        for which in results.settings
        for agent in results.agents
        # The mean of one agent is that agent.
        if agent != MEAN or results.team_size(which) > 1
        if (row := results.ends.get((which, agent))) is not None
    ]
    if not rows:
        raise ValueError(f"summary.csv has no model of curves.csv. {AGAIN}")
    aims = [*map(reward_measure, results.rewards), KL]
    others = [measure for measure in measured_columns(rows) if measure not in (REWARD, KL)]
    rests_on = _rests_on(rows)
    compared, baseline = aims if len(results.arms) > 1 else [], results.baseline
    lines = [
        {
            **_model(results, row),
            **{column: _count(row.get(key)) for key, column in rests_on.items()},
            **{Column(aim.title): measured(aim, row) for aim in aims},
            **{Column(f"{aim.title} − {baseline}"): _difference(aim, row) for aim in compared},
            Column("not collapsed"): _share_alive(results, row),
        }
        for row in rows
    ]
    signs = [
        {**_model(results, row), **{Column(other.title): measured(other, row) for other in others}}
        for row in rows
    ]
    caption = f"Reward and KL, and their differences to {baseline}" if compared else "Reward and KL"
    if (step := in_common(rows, "step")) is not None:
        caption += f", after {step} iterations"
    return [table_of(caption, lines), table_of("Signs of collapse", signs)]


def _rests_on(rows: Sequence[Row]) -> dict[str, Column]:
    """Columns that say what a number rests on, where that is not the same for all or as it seems.

    By their keys: the iteration, the seeds that a difference is of, and the iteration of that.
    """
    compared = [row for row in rows if row.get("pairs") is not None]
    columns = {} if in_common(rows, "step") is not None else {"step": Column("iterations")}
    if any(row["pairs"] != row["seeds"] for row in compared):
        columns["pairs"] = Column("pairs")
    if any(row["pairs"] and row["difference_step"] != row["step"] for row in compared):
        columns["difference_step"] = Column("compared after")
    return columns


def _paid_differently(results: Results) -> str:
    """Why there is no common reward; nothing where there is."""
    if results.rewards == [REWARD.key]:
        return ""
    return "Arms are paid differently, so each reward function is compared alone. "


def frontier_tables(results: Results) -> list[Table]:
    """The hypervolume of each arm's reward–KL frontier; a table for each reward."""
    rows = {
        reward: [r for r in results.frontier if r["reward"] == reward] for reward in results.rewards
    }
    return [_frontier_table(results, reward_measure(key), each) for key, each in rows.items()]


def _frontier_table(results: Results, reward: Measure, rows: Sequence[Row]) -> Table:
    first = rows[0]
    are_fewer = any(row.get("pairs") not in (None, row["seeds"]) for row in rows)
    lines = [
        {
            ARM: words(row["arm"] + (", merged" if row["agent"] == "merged" else "")),
            **_axes(results, row),
            SEEDS: _number(row["seeds"]),
            **({Column("pairs"): _count(row.get("pairs"))} if are_fewer else {}),
            Column("hypervolume"): measured(HYPERVOLUME, row),
            Column(f"hypervolume − {results.baseline}"): _difference(HYPERVOLUME, row),
        }
        for row in rows
    ]
    least, kl = REWARD.write(first["reference_reward"]), KL.write(first["reference_kl"])
    return table_of(
        f"Hypervolume: area of the frontier above {reward.title} {least} and below KL {kl}, over "
        "all iterations and KL coefficients of the runs that came to their end; more is better",
        lines,
    )


def _model(results: Results, row: Row) -> dict[Column, Cell]:
    """Whose row it is; a coefficient or rate that all have in common is left out."""
    return {
        ARM: words(row["arm"]),
        Column("model", is_text=True): words(shown_agent(row["agent"])),
        **_axes(results, row),
        SEEDS: _number(row["seeds"]),
    }


def _axes(results: Results, row: Row) -> dict[Column, Cell]:
    return {Column(label): _number(row[key]) for key, label in results.axes.items() if key in row}


def _number(value: float) -> Cell:
    return Cell(setting(value), value)


def _count(value: float | None) -> Cell:
    """A whole number, which is read as a float where other rows have none."""
    return Cell("–") if value is None else Cell(f"{value:.0f}", value)


def _difference(measure: Measure, row: Row) -> Cell:
    """The paired difference to the baseline, with its sign."""
    cell = measured(measure, row, f"{measure.key}_difference")
    is_more = isinstance(cell.value, float) and cell.value > 0
    return Cell(f"+{cell.text}", cell.value) if is_more else cell


def _share_alive(results: Results, row: Row) -> Cell:
    number, of = results.alive(row["arm"], row["learning_rate"], row["kl_coef"])
    return Cell(f"{number} of {of}", number / of) if of else Cell("–")


def _facts(results: Results) -> dict[str, str]:
    runs = results.runs.values()
    return {
        "task": str(results.plan.get("task") or "the user's own"),
        "arms": str(len(results.arms)),
        "seeds": ", ".join(map(str, sorted({row["seed"] for row in runs}))),
        "KL coefficients η": ", ".join(map(setting, results.kl_coefs)),
        "learning rates": ", ".join(map(setting, results.learning_rates)),
        "runs": str(len(runs)),
        "training time": duration(sum(row["total_seconds"] or 0.0 for row in runs)),
    }


def _plan_tables(plan: Mapping[str, Any]) -> list[Table]:
    """What each arm changes, and what all have in common."""
    arms, base = plan.get("arms") or {}, plan.get("base") or {}
    changes = [
        (str(name), ", ".join(f"{k}: {setting(v)}" for k, v in (arm or {}).items()) or "–")
        for name, arm in arms.items()
    ]
    settings = [(str(name), setting(value)) for name, value in base.items()]
    tables = (
        table_of_words("Arms", ["arm", "differs from the base in"], changes),
        table_of_words("Base settings of every arm", ["setting", "value"], settings),
    )
    return [table for table in tables if table.rows]
