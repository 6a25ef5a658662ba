"""examples/quickstart.py: what it concludes follows from its numbers, and it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from examples import quickstart
from examples.quickstart import ARMS, Result, results, verdict

PPO = Result("PPO", 512, reward=2.0, half_interval=0.03, kl=3.0, distinct_2=0.2, seconds=10)
TEAM = Result("the team", 512, reward=1.96, half_interval=0.04, kl=2.5, distinct_2=0.2, seconds=20)


def test_the_verdict_names_who_is_ahead_and_by_how_much() -> None:
    """Prevents a sentence that praises one arm whatever the numbers say."""
    assert verdict([TEAM, replace(PPO, reward=2.5)]) == (
        "At 512 samples each, PPO earns most (2.50); the team earns 0.54 less at 0.50 nats less KL."
    )
    assert verdict([replace(TEAM, reward=2.5), PPO]) == (
        "At 512 samples each, the team earns most (2.50); PPO earns 0.50 less at 0.50 nats more KL."
    )


def test_a_difference_within_the_intervals_is_called_so() -> None:
    """Prevents a winner by noise: the gap is .04, its half interval √(.03² + .04²) = .05."""
    assert "earns 0.04 less (within the intervals)" in verdict([PPO, TEAM])
    assert "within" not in verdict([PPO, replace(TEAM, reward=1.949)])


def test_results_average_the_agents_after_the_last_iteration() -> None:
    """Prevents a table of the better agent, or of an evaluation on the way."""
    keys = ("total_samples", "task_reward_ci95", "kl", "distinct_2", "total_seconds")
    rows = [
        {"arm": arm, "agent": agent, "step": step, "task_reward": reward, **dict.fromkeys(keys, 1)}
        for arm in ARMS
        for agent, step, reward in (
            ("agent_0", 0, -1.0),
            ("agent_0", 10, 9.0),
            ("agent_0", 20, 1.0),
            ("agent_1", 20, 2.0),
        )
    ]
    found = {row.name: row.reward for row in results(pd.DataFrame(rows))}
    assert found == {"initial model": -1.0, **dict.fromkeys(ARMS.values(), 1.5)}


@pytest.mark.slow
def test_it_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Prevents a first command that fails. All arms see equal samples."""
    sizes = ["--batch_size", "4", "--num_eval_queries", "4"]
    quickstart.main(["--max_steps", "1", "--output_dir", str(tmp_path / "out"), *sizes])
    output = capfd.readouterr().out
    assert "At 8 samples each, " in output
    for name in ("initial model", *ARMS.values()):
        assert output.count(f"\n{name} ") == output.count(f"\n  {name} ") == 1
    assert (tmp_path / "out" / "report.html").is_file()
