"""Several finished runs on one page: their ends in a table, their held-out curves in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cory.config import CORYConfig
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
from cory.report.figures import COLOURS, Figure, Panel, panels_of
from cory.report.measures import HELD_OUT, Measure, measured_columns, setting
from cory.report.records import read_records
from cory.report.run import NOT_SHOWN
from cory.report.run_figures import ITERATIONS, curves_of
from cory.training.records import load_config

MOST = 20
"""Runs on one page."""


@dataclass(frozen=True)
class Run:
    """A run as the page names it, its settings, and its records."""

    name: str
    directory: Path
    args: CORYConfig
    records: Sequence[Mapping[str, Any]]

    @property
    def agents(self) -> list[str]:
        """Names of its agents."""
        return [f"agent_{index}" for index in range(self.args.num_agents)]


def describe_runs(directories: Sequence[Path]) -> Contents:
    """What the page of several runs shows.

    Raises:
        ValueError: a directory holds no run, one is named twice, or there are too many.
    """
    if len(directories) > MOST:
        raise ValueError(f"{len(directories)} runs are too many for a page: name at most {MOST}")
    if len({path.resolve() for path in directories}) < len(directories):
        raise ValueError("a run is named twice: name each once")
    runs = [
        Run(name, path, load_config(path), read_records(path / "metrics.jsonl"))
        for name, path in zip(_names(directories), directories, strict=True)
    ]
    sections = [
        Section(
            "results",
            "Results",
            "Each agent alone on held-out queries at its run's last evaluation, ± half a 95% "
            "interval over queries. Runs may differ in task and settings: see below. A run is "
            "one seed; `cory compare` measures differences over seeds.",
            tables=_results(runs),
        ),
        Section("curves", "Held-out curves", "Each agent alone.", figures=[_figure(runs)]),
        Section("settings", "What differs", "", tables=_differences(runs)),
    ]
    return Contents(
        kind="set of runs",
        title=" · ".join(run.name for run in runs),
        facts={"runs": str(len(runs))},
        sections=without_empty(sections),
        runs={run.name: run.directory for run in runs},
    )


def _names(directories: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [path.resolve().parts for path in directories]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths differ somewhere")


def _last(run: Run) -> Mapping[str, Any] | None:
    """The record of the last evaluation."""
    key = f"eval/{run.agents[0]}/task_reward"
    return next((record for record in reversed(run.records) if key in record), None)


def _results(runs: Sequence[Run]) -> list[Table]:
    ends = [
        (run, agent, record, _metrics(record, agent))
        for run in runs
        if (record := _last(run)) is not None
        for agent in run.agents
    ]
    measures = measured_columns([metrics for *_, metrics in ends])
    lines = [
        {
            Column("run", is_text=True): words(run.name),
            Column("agent", is_text=True): words(agent),
            Column("iterations"): Cell(f"{record['step']} of {run.args.max_steps}", record["step"]),
            **{Column(m.title): measured(m, metrics, interval=m.interval) for m in measures},
        }
        for run, agent, record, metrics in ends
    ]
    missing = [run.name for run in runs if _last(run) is None]
    caption = "Last evaluation of each run"
    if missing:
        caption += f"; nothing was measured in {', '.join(missing)}"
    return [table_of(caption, lines)] if lines else []


def _metrics(record: Mapping[str, Any], agent: str) -> dict[str, Any]:
    prefix = f"eval/{agent}/"
    own = [key for key in record if key.startswith(prefix)]
    return {key.removeprefix(prefix): record[key] for key in own}


def _figure(runs: Sequence[Run]) -> Figure:
    return Figure(
        key="held_out",
        title="Each agent alone on held-out queries.",
        note="A colour for each run, a line for each agent; bands are 95% intervals over queries.",
        axes=[ITERATIONS],
        panels=_panels(runs),
    )


def _panels(runs: Sequence[Run]) -> list[Panel]:
    def curves(measure: Measure) -> list[Any]:
        return [
            replace(curve, name=f"{run.name} · {agent}" if len(run.agents) > 1 else run.name)
            for colour, run in enumerate(runs)
            for line, agent in enumerate(run.agents)
            for curve in curves_of(
                run.records, f"eval/{agent}", measure, None, colour, line + colour // len(COLOURS)
            )
        ]

    return panels_of((measure, curves(measure)) for measure in HELD_OUT)


def _differences(runs: Sequence[Run]) -> list[Table]:
    """The settings in which the runs differ, a column for each run."""
    every = [run.args.to_dict() for run in runs]
    names = [
        name
        for name in every[0]
        if name not in NOT_SHOWN and any(each[name] != every[0][name] for each in every)
    ]
    rows = [(name, *(setting(each[name]) for each in every)) for name in names]
    if not rows:
        return []
    return [table_of_words("Settings", ["setting", *(run.name for run in runs)], rows)]
