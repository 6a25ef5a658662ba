"""Plots of runs: what is drawn, from what, and that nobody else's figures are touched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from cory.config import CORYConfig
from cory.report.style import _mark_exchanges, _series, plot_run, plot_runs

PNG = b"\x89PNG\r\n\x1a\n"


def fake_run(directory: Path, num_agents: int, *, evaluated: bool = True) -> Path:
    """A run directory as training leaves it, with made-up numbers."""
    directory.mkdir()
    args = CORYConfig(num_agents=num_agents, role_exchange_period=2, max_steps=6)
    (directory / "config.yaml").write_text(yaml.safe_dump(args.to_dict()))
    records: list[dict] = []
    for step in range(7):
        owners = [f"agent_{index}" for index in range(num_agents)]
        if step:
            roles = ["pioneer", "observer"][:num_agents]
            numbers = {f"{owner}/task_reward": 0.1 * step for owner in owners + roles}
            numbers |= {f"{owner}/kl": 0.2 * step for owner in owners + roles}
            records.append({"step": step, "total_samples": 8.0 * step * num_agents, **numbers})
        if evaluated and step % 3 == 0:
            keys = {"task_reward": 0.1 * step, "task_reward_ci95": 0.05, "kl": 0.2 * step}
            held_out = {f"eval/{owner}/{key}": keys[key] for owner in owners for key in keys}
            records.append({"step": step, **held_out})
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    return directory


@pytest.mark.parametrize("num_agents", [1, 2])
def test_a_run_gives_png_files(tmp_path: Path, num_agents: int) -> None:
    """Prevents plots that need two agents, a display or pyplot's global state."""
    had_pyplot = "matplotlib.pyplot" in sys.modules
    paths = plot_run(fake_run(tmp_path / "run", num_agents))
    assert [path.name for path in paths] == ["training.png", "held_out.png"]
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot


def test_a_run_without_evaluations_has_training_curves(tmp_path: Path) -> None:
    """Prevents a KeyError on runs that were never evaluated."""
    paths = plot_run(fake_run(tmp_path / "run", 2, evaluated=False))
    assert [path.name for path in paths] == ["training.png"]


def test_runs_are_compared_in_one_file(tmp_path: Path) -> None:
    """Prevents a comparison of teams of different sizes from failing."""
    runs = {"CORY": fake_run(tmp_path / "cory", 2), "PPO": fake_run(tmp_path / "ppo", 1)}
    path = plot_runs(runs, tmp_path / "out" / "comparison.png")
    assert path.read_bytes().startswith(PNG)


def test_a_run_that_has_not_begun_is_refused(tmp_path: Path) -> None:
    """Prevents an empty picture, or an IndexError."""
    directory = fake_run(tmp_path / "run", 2)
    (directory / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match="no metrics yet"):
        plot_run(directory)
    with pytest.raises(ValueError, match="not a run directory"):
        plot_run(tmp_path)


def test_values_that_were_not_measured_are_left_out() -> None:
    """Prevents a null in metrics.jsonl (a NaN) from breaking or bending a curve."""
    records = [{"step": 1, "kl": 0.5}, {"step": 2, "kl": None}, {"step": 3}, {"step": 4, "kl": 1.0}]
    assert _series(records, "kl") == ([1, 4], [0.5, 1.0])


def test_exchanges_are_marked_between_the_iterations_that_they_part() -> None:
    """Prevents marks that are off by one, or where nothing is exchanged."""
    from matplotlib.figure import Figure

    def marks(num_agents: int, period: int | None) -> list[float]:
        axis = Figure().subplots()
        args = CORYConfig(num_agents=num_agents, role_exchange_period=period)
        _mark_exchanges(axis, args, last_step=6)
        return [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata())]

    # Iterations are numbered from 1 in metrics: 1 and 2 in one order, 3 and 4 in the other.
    assert marks(2, 2) == [2.5, 4.5]
    assert marks(1, 2) == marks(2, None) == []
