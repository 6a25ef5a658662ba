"""All held-out evaluations of a comparison as one tidy table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cory.compare.plan import PlannedRun
from cory.config import CORYConfig
from cory.io.objects import finite_numbers
from cory.team.metrics import read_metrics
from cory.training.alarms import MAX_KL_PER_TOKEN

CELL = ["arm", "kl_coef", "learning_rate"]
"""What the runs of one place in the matrix have in common."""
RUN_KEYS = [*CELL, "seed"]
TOTALS = ["total_samples", "total_tokens", "total_seconds"]
COLUMNS = [*RUN_KEYS, "agent", "step", "run", "max_steps", "paid_by", *TOTALS, "collapsed"]
"""Columns that every table has, before one for each measure of an evaluation."""
MIN_DISTINCT_2_SHARE = 0.25
"""Below this share of the initial model's distinct-2, answers repeat each other. A task sets the
level: on a vocabulary of 16 tokens, few token pairs are distinct even in healthy answers."""
REWARD_PART = "reward/"
"""How the measures of single reward functions begin."""
MEASURES = ["task_reward", "task_reward_ci95", "kl", "kl_per_token", "distinct_2"]
"""Measures that every evaluation has."""
_MEASURE = re.compile(r"eval/(agent_\d+|merged)/(.+)")


def load_results(output_dir: Path | str) -> pd.DataFrame:
    """The table of a comparison: a row per run, agent and held-out evaluation.

    Columns: `arm`, `kl_coef`, `learning_rate`, `seed`, `agent`, `step`, `run` (its directory),
    `max_steps` (iterations that were planned), `paid_by` (weights and reward functions),
    `total_samples`, `total_tokens`, `total_seconds`, `collapsed`, then every measure of an
    evaluation (`task_reward`, `kl` …; docs/reference/metrics.md) and `combined_reward`.

    Raises:
        ValueError: there is no such table.
    """
    path = Path(output_dir) / "results.parquet"
    if not path.is_file():
        raise ValueError(
            f"{output_dir} has no results.parquet: `cory compare` writes it when its runs are done"
        )
    return pd.read_parquet(path)


def gather(runs: Iterable[PlannedRun], output_dir: Path) -> pd.DataFrame:
    """Read the evaluations of all runs, also of those that did not come to their end."""
    planned = list(runs)
    ambiguous = _ambiguous_names(planned)
    rows = [row for run in planned for row in _rows(run, output_dir, ambiguous)]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=COLUMNS)


def _rows(run: PlannedRun, output_dir: Path, ambiguous: Set[str]) -> list[dict[str, Any]]:
    path = run.directory / "metrics.jsonl"
    records = read_metrics(path)
    totals: dict[int, dict[str, float]] = {0: dict.fromkeys(TOTALS, 0.0)}
    totals |= {
        record["step"]: _numbers(record, TOTALS, f"{path}, step {record['step']}")
        for record in records
        if TOTALS[0] in record
    }
    sources = _sources(run.args)
    renamed = {name: f"{REWARD_PART}{sources[name]}" for name in sources.keys() & ambiguous}
    rows: list[dict[str, Any]] = []
    initial: dict[str, dict[str, float]] = {}
    for record in records:
        step = record["step"]
        for agent, found in _by_agent(record).items():
            where = f"{path}, step {step}"
            measures = _numbers(found, [*found, *MEASURES], f"{where}, {agent}")
            initial.setdefault(agent, measures)
            rows.append(
                {
                    **{name: getattr(run, name) for name in RUN_KEYS},
                    "agent": agent,
                    "step": step,
                    "run": str(run.directory.relative_to(output_dir)),
                    "max_steps": run.args.max_steps,
                    "paid_by": paid_by(run.args),
                    **_numbers(totals.get(step, {}), TOTALS, where),
                    "collapsed": has_collapsed(measures, initial[agent]),
                    **{renamed.get(name, name): value for name, value in measures.items()},
                    "combined_reward": combined_reward(measures, run.args),
                }
            )
    return rows


def _by_agent(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The measures of an evaluation, by who was evaluated."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in record.items():
        if match := _MEASURE.fullmatch(key):
            found.setdefault(match[1], {})[match[2]] = value
    return found


def _numbers(found: Mapping[str, Any], names: Iterable[str], where: str) -> dict[str, float]:
    """The numbers of these names, in this order; what is null was not a number.

    Raises:
        ValueError: one is missing, or is no number: somebody changed the file.
    """
    try:
        numbers = finite_numbers({name: found[name] for name in names}, where)
    except KeyError as error:
        raise ValueError(
            f"{where}: {error} is missing, which training writes there. Remove the directory of "
            "this run, and the same command trains it again"
        ) from error
    return {name: np.nan if value is None else value for name, value in numbers.items()}


def combined_reward(measures: Mapping[str, float], args: CORYConfig) -> float:
    """Reward − η·KL: what training maximises; nan where it maximises something else.

    That is so where rewards are scaled or clipped, or η adapts: η is then the price of a KL in
    another currency than `task_reward`.
    """
    is_plain = not args.normalize_rewards and args.score_clip is None
    if not is_plain or args.kl_controller != "fixed":
        return np.nan
    return measures["task_reward"] - args.kl_coef * measures["kl"]


def paid_by(args: CORYConfig) -> str:
    """The weights and reward functions that make `task_reward`, the currency of an arm.

    >>> paid_by(CORYConfig(reward_funcs=["a.py:f", "a.py:g"], reward_weights=[1, 0]))
    '1 · a.py:f'
    """
    names = args.reward_funcs or [str(args.reward_model_name_or_path or args.task)]
    weights = args.reward_weights or [1.0] * len(names)
    paid = zip(names, weights, strict=False)
    return " + ".join(f"{weight:g} · {name}" for name, weight in sorted(paid) if weight)


def _sources(args: CORYConfig) -> dict[str, str]:
    """Where the reward function behind each measure `reward/NAME` comes from."""
    names = [_short_name(source) for source in args.reward_funcs or ()]
    counts = [names[:place].count(name) + 1 for place, name in enumerate(names)]
    return {
        REWARD_PART + (name if count == 1 else f"{name}_{count}"): source
        for name, count, source in zip(names, counts, args.reward_funcs or (), strict=True)
    }


def _short_name(source: str) -> str:
    """The name of a function in a file or module, or the last part of a model's."""
    if all(map(str.isidentifier, source.split("."))):
        return source.rpartition(".")[2]
    return re.split(r"[:/]", source.rstrip("/"))[-1]


def _ambiguous_names(runs: Iterable[PlannedRun]) -> set[str]:
    """Measures `reward/NAME` that are other functions in other arms, or have other names there."""
    pairs = {pair for run in runs for pair in _sources(run.args).items()}
    names, sources = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    return {name for name, source in pairs if names[name] > 1 or sources[source] > 1}


def has_collapsed(measures: Mapping[str, float], initial: Mapping[str, float]) -> bool:
    """Whether an agent's answers repeat, left the initial model's language, or earn less than it.

    It earns less if its reward is lower by more than its own 95% half-width. The ceiling of the KL
    is that of the alarms in training.

    Args:
        measures: `task_reward`, `task_reward_ci95`, `kl_per_token` and `distinct_2` on held-out
            queries. A value that is nan counts as collapse.
        initial: the same of the initial model.

    >>> start = dict(task_reward=0.3, task_reward_ci95=0.1, kl_per_token=0.0, distinct_2=0.4)
    >>> has_collapsed(start, start), has_collapsed({**start, "distinct_2": 0.09}, start)
    (False, True)
    """
    is_healthy = (
        measures["distinct_2"] >= MIN_DISTINCT_2_SHARE * initial["distinct_2"]
        and measures["kl_per_token"] <= MAX_KL_PER_TOKEN
        and measures["task_reward"] + measures["task_reward_ci95"] >= initial["task_reward"]
    )
    # A comparison with nan is False.
    return not is_healthy
