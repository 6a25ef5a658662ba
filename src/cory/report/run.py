"""A run as a page: its training, its agents alone, what observers took over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cory.config import CORYConfig
from cory.report.contents import (
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
from cory.report.measures import duration, measured_columns, setting
from cory.report.records import read_evaluation, read_records
from cory.report.run_figures import (
    Records,
    frontier_figure,
    held_out_figure,
    training_figures,
    transfer_figure,
)
from cory.report.verdicts import run_verdict
from cory.tasks import task_defaults
from cory.training.records import load_config
from cory.training.samples import INITIAL_MODEL

MAX_SETS = 20
"""Named held-out sets that a page shows."""
NOT_SHOWN = frozenset({"output_dir", "resume", "report_to", "run_name", "project"})
"""Settings that say nothing about what was learnt."""


def describe_run(directory: Path) -> Contents:
    """Everything that a run's page shows.

    Raises:
        ValueError: the directory holds no run, one without a finished iteration, or a file that
            is not what cory writes.
    """
    args, records = load_config(directory), read_records(directory / "metrics.jsonl")
    if not records:
        raise ValueError(
            f"{directory} has no metrics yet: nothing was logged to metrics.jsonl. Wait for the "
            "first iteration"
        )
    agents = [f"agent_{index}" for index in range(args.num_agents)]
    sections = [
        _results(directory, agents, records),
        Section(
            "training",
            "Training",
            "Each agent's own samples while it learns. The agent's curve follows weights, the "
            "role's a place in the order of speaking; the strip shows which agent had which role.",
            figures=training_figures(args, agents, records),
        ),
        Section(
            "alone",
            "Each agent alone, held out",
            "Every agent on the plain query, without a partner; bands are 95% intervals over "
            "queries.",
            figures=[held_out_figure(agents, records), frontier_figure(agents, records)],
        ),
        Section(
            "transfer",
            "What observers take over",
            "How much of an observer's answer stands in an earlier answer to the same query, and "
            "what it earns above its pioneer.",
            figures=[transfer_figure(args, records)],
        ),
    ]
    return Contents(
        kind="run",
        title=args.run_name or directory.resolve().name,
        facts=_facts(args, records),
        sections=without_empty(sections),
        runs={directory.resolve().name: directory},
        appendix=[Section("settings", "Settings", "", tables=_settings_tables(args))],
        verdict=run_verdict(args, agents, records),
    )


def _facts(args: CORYConfig, records: Records) -> dict[str, str]:
    latest: dict[str, Any] = {}
    for record in records:
        latest |= {key: value for key, value in record.items() if value is not None}
    facts = {
        "task": args.task or args.dataset_name or "the user's own",
        "model": args.model_name_or_path or "handed over as an object",
        "agents": str(args.num_agents),
        "iterations": f"{latest['step']} of {args.max_steps}",
        "seed": str(args.seed),
    }
    if {"total_samples", "total_tokens", "total_seconds"} <= latest.keys():
        facts["answers sampled"] = f"{latest['total_samples']:,.0f}"
        facts["tokens"] = f"{latest['total_tokens']:,.0f}"
        facts["training time"] = duration(latest["total_seconds"])
    return facts


def _results(directory: Path, agents: Sequence[str], records: Records) -> Section:
    """The last evaluation, and the first where it measured the initial model."""
    evaluations = {
        record["step"]: record for record in records if f"eval/{agents[0]}/task_reward" in record
    }
    tables = []
    if evaluations:
        step = max(evaluations)
        caption = f"Held-out queries, each model alone, iteration {step}"
        for place in ("", *_named_sets(evaluations[step], agents[0])):
            models = {agent: _metrics_of(evaluations[step], f"{place}{agent}") for agent in agents}
            if 0 in evaluations:
                initial = _metrics_of(evaluations[0], f"{place}{agents[0]}")
                models = {INITIAL_MODEL: initial} | models
            tables.append(_models_table(f"{caption}{place and ', set '}{place[:-1]}", models))
    tables += _separate_evaluation(directory / "eval.json")
    note = (
        "Means ± half a 95% interval over queries. KL is that to the initial model, perplexity "
        "that under it."
    )
    if tables and 0 not in evaluations:
        note += " Set eval_steps in training, or run `cory eval`, to see the initial model too."
    return Section("results", "Results", note, tables=tables)


def _named_sets(record: Mapping[str, Any], agent: str) -> list[str]:
    """What stands before an agent's name in the keys of each held-out set that has a name."""
    beginning, end = "eval/", f"/{agent}/task_reward"
    keys = [key for key in record if key.startswith(beginning) and key.endswith(end)]
    return [f"{key[len(beginning) : -len(end)]}/" for key in keys if key != f"eval{end}"][:MAX_SETS]


def _metrics_of(record: Mapping[str, Any], agent: str) -> dict[str, float | None]:
    prefix = f"eval/{agent}/"
    return {
        key.removeprefix(prefix): value for key, value in record.items() if key.startswith(prefix)
    }


def _separate_evaluation(path: Path) -> list[Table]:
    """The table of `cory eval`, where it was run."""
    if not path.is_file():
        return []
    found = read_evaluation(path)
    if not found["metrics"]:
        return []
    settings, places = found["settings"], list(found["checkpoints"].values())
    task = settings.get("task") or settings.get("dataset_name") or "own data"
    checkpoint = f", checkpoint {Path(places[0]).parent.name}" if places else ""
    caption = (
        f"cory eval: {task}, {found['num_queries']} held-out queries, {found['num_samples']} "
        f"answers each{checkpoint}"
    )
    return [_models_table(caption, found["metrics"])]


def _models_table(caption: str, models: Mapping[str, Mapping[str, float | None]]) -> Table:
    """A row per model, a column per measure, ± half the 95% interval over queries."""
    measures = measured_columns(list(models.values()))
    lines = [
        {
            Column("model", is_text=True): words(name),
            **{Column(m.title): measured(m, metrics, interval=m.interval) for m in measures},
        }
        for name, metrics in models.items()
    ]
    return table_of(caption, lines)


def _settings_tables(args: CORYConfig) -> list[Table]:
    """What differs from the defaults, and everything."""
    defaults = CORYConfig().to_dict() | ({} if args.task is None else task_defaults(args.task))
    settings = {name: value for name, value in args.to_dict().items() if name not in NOT_SHOWN}
    changed = [
        (name, setting(value), setting(defaults[name]))
        for name, value in settings.items()
        if value != defaults[name] and name != "task"
    ]
    of = "the defaults" if args.task is None else f"the defaults of {args.task}"
    everything = [(name, setting(value)) for name, value in settings.items()]
    caption, titles = f"Settings that differ from {of}", ["setting", "here", "default"]
    return [
        *([table_of_words(caption, titles, changed)] if changed else []),
        table_of_words("All settings", ["setting", "value"], everything, is_folded=True),
    ]
