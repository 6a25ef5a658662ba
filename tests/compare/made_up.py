"""Comparisons whose runs were never trained: their records are made up, so results are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cory.compare.plan import Comparison, PlannedRun
from cory.compare.summary import write_tables

Measure = Callable[[PlannedRun, int, int], Mapping[str, float]]
"""Held-out measures of a run's agent (its number) at a step."""


def comparison(**changes: Any) -> Comparison:
    """PPO and CORY, two seeds, evaluated at steps 0, 2 and 4."""
    base = {"max_steps": 4, "eval_steps": 2, "batch_size": 10, "role_exchange_period": 2}
    arms = {"ppo": {"num_agents": 1}, "cory": {"num_agents": 2}}
    return Comparison(**{"base": base, "arms": arms, "seeds": [0, 1], **changes})


def measures(reward: float, kl: float, **others: float) -> dict[str, float]:
    """An evaluation in which nothing is wrong, unless `others` say so."""
    healthy = {"task_reward_ci95": 0.01, "kl_per_token": kl / 10, "distinct_2": 0.4}
    return {"task_reward": reward, "kl": kl, **healthy, **others}


def rising(run: PlannedRun, agent: int, step: int) -> dict[str, float]:
    """Reward .1 a step for PPO and .05 for CORY, .01 more with seed 1, agent_1 .02 behind."""
    slope = 0.1 if run.arm == "ppo" else 0.05
    reward = step and slope * step + 0.01 * run.seed - 0.02 * agent
    return measures(0.2 + reward, 0.5 * step)


def write_runs(
    runs: list[PlannedRun], measure: Measure = rising, last_step: int | None = None
) -> None:
    """Write config.yaml and metrics.jsonl of each run as training does.

    A run spends 10 answers, 100 tokens and 1 second per agent and step.
    """
    for run in runs:
        run.directory.mkdir(parents=True, exist_ok=True)
        (run.directory / "config.yaml").write_text(yaml.safe_dump(run.args.to_dict()))
        lines = _records(run, measure, last_step or run.args.max_steps)
        (run.directory / "metrics.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )


def _records(run: PlannedRun, measure: Measure, last_step: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    eval_steps, num_agents = run.args.eval_steps, run.args.num_agents
    assert eval_steps is not None
    for step in range(last_step + 1):
        used = num_agents * step
        if step:
            totals = {"samples": run.args.batch_size * used, "tokens": 100 * used, "seconds": used}
            totals = {f"total_{name}": float(value) for name, value in totals.items()}
            records.append({"step": step, "agent_0/task_reward": 0.0, **totals})
        if step % eval_steps == 0:
            record: dict[str, Any] = {"step": step}
            for agent in range(num_agents):
                for name, value in measure(run, agent, step).items():
                    is_number = value == value
                    record[f"eval/agent_{agent}/{name}"] = value if is_number else None
            records.append({**record, "eval/task_reward": 0.0})
    return records


def planned(directory: Path, **changes: Any) -> list[PlannedRun]:
    """The runs of `comparison`, none of them written."""
    return comparison(**changes).runs(directory)


def write_two_currencies(directory: Path) -> None:
    """Write the tables of two arms, each paid by one of two functions and measured by both."""
    names = ["r.py:brief", "r.py:kind"]
    plan = comparison(
        arms={
            "ppo": {"num_agents": 1, "reward_weights": [1, 0]},
            "other": {"num_agents": 1, "reward_weights": [0, 1]},
        },
        base={"max_steps": 4, "eval_steps": 2, "batch_size": 10, "reward_funcs": names},
        allow=["reward_weights"],
    )

    def measure(run: PlannedRun, agent: int, step: int) -> dict[str, float]:
        parts = {"reward/brief": 0.1 * step, "reward/kind": 0.2 * step}
        return measures(parts["reward/brief"] * 7, 0.5 * step, **parts)

    runs = plan.runs(directory)
    write_runs(runs, measure)
    write_tables(plan, runs, directory)
