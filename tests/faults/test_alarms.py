"""Alarms: signs of collapse warn, are counted in metrics, and may stop a run."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import pytest

from cory.config import CORYConfig
from cory.config.themes import FaultsConfig
from cory.training.alarms import (
    ITERATIONS_TO_STOP,
    MAX_KL_PER_TOKEN,
    MIN_ENTROPY,
    MIN_UNIQUE_SHARE,
    CollapseError,
    alarms_of,
)
from cory.training.checkpoint import Checkpoints
from tests.tiny_runs import records, trainer

FINE = {"entropy": 1.0, "kl_per_token": 0.5, "unique_share": 1.0}


COLLAPSED = {"max_completion_length": 1, "temperature": 0.001}
"""Answers of one token, the likeliest: no entropy, and all answers to a query are equal."""


@pytest.mark.parametrize(
    ("name", "edge", "over", "message"),
    [
        ("entropy", 0.01, 0.009, "entropy 0.009 is below 0.01"),
        ("kl_per_token", 2.0, 2.1, "kl_per_token 2.1 is above 2.0"),
        ("unique_share", 0.1, 0.05, "unique_share 0.05 is below 0.1"),
    ],
)
def test_each_threshold_has_its_alarm(name: str, edge: float, over: float, message: str) -> None:
    """Prevents a collapse that is seen only when the run is over."""
    args = CORYConfig()
    assert alarms_of(FINE | {name: edge}, args) == []
    assert alarms_of(FINE | {name: over}, args) == [message]
    assert len(alarms_of(FINE | {name: math.nan}, args)) == 1, "what is no number is no good sign"
    assert alarms_of(FINE | {name: over}, args.replace(collapse_alarms="off")) == []


def test_the_help_has_the_thresholds() -> None:
    """Prevents a documented threshold that is not the one that acts."""
    help_text = " ".join(inspect.getsource(FaultsConfig).split())
    for words in (
        f"entropy below {MIN_ENTROPY} nats per token",
        f"KL to the initial model above {MAX_KL_PER_TOKEN:g} nats per token",
        f"less than {MIN_UNIQUE_SHARE:.0%} distinct answers",
        f"after {ITERATIONS_TO_STOP} such iterations in a row",
    ):
        assert words in help_text


def test_an_alarm_is_said_once_and_counted_always(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a console full of the same line, and a metric that the console contradicts."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=3, **COLLAPSED).train()
    told = capsys.readouterr().err
    for agent in ("agent_0", "agent_1"):
        assert told.count(f"alarm in iteration 1: {agent}'s entropy") == 1
        assert all(line[f"{agent}/alarms"] >= 1 for line in records(tmp_path))
    assert told.count("alarm in iteration") == 2
    trainer(tiny_gpt2_dir, tmp_path, max_steps=4, resume=True).train()
    told = capsys.readouterr().err
    assert "in iteration 4 there is no alarm of agent_1 any more" in told
    assert records(tmp_path)[-1]["pioneer/alarms"] == 0


def test_alarms_that_last_end_the_run_saved(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a collapsed run from costing a night, and a resume from forgetting its alarms."""

    def team(collapse_alarms: str, **more: Any) -> Any:
        options = {"max_steps": 9, "collapse_alarms": collapse_alarms, **COLLAPSED, **more}
        return trainer(tiny_gpt2_dir, tmp_path, **options)

    team("warn", max_steps=3).train()
    with pytest.raises(CollapseError, match="in 5 iterations in a row, the last in iteration 5"):
        team("stop", resume=True).train()
    assert Checkpoints(tmp_path, limit=None).steps() == [3, 5]
    with pytest.raises(CollapseError, match="in 6 iterations in a row, the last in iteration 6"):
        team("stop", resume=True).train()
    team("warn", resume=True, max_steps=7).train()
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
