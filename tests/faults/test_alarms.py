"""Alarms: signs of collapse warn, are counted in metrics, and may stop a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cory.compare.collapse import MAX_KL_PER_TOKEN
from cory.config import CORYConfig
from cory.training.alarms import CollapseError, alarms_of
from cory.training.checkpoint import Checkpoints
from tests.tiny_runs import records, trainer

FINE = {"entropy": 1.0, "kl_per_token": 0.5, "unique_share": 1.0}


@pytest.mark.parametrize(
    ("name", "edge", "over", "message"),
    [
        ("entropy", 0.01, 0.009, "entropy 0.009 is under min_entropy=0.01"),
        ("kl_per_token", 2.0, 2.1, "kl_per_token 2.1 is over max_kl_per_token=2.0"),
        ("unique_share", 0.1, 0.05, "unique_share 0.05 is under min_unique_share=0.1"),
    ],
)
def test_each_threshold_has_its_alarm(name: str, edge: float, over: float, message: str) -> None:
    """Prevents a collapse that is seen only when the run is over."""
    args = CORYConfig()
    assert alarms_of(FINE | {name: edge}, args) == []
    assert alarms_of(FINE | {name: over}, args) == [message]
    assert len(alarms_of(FINE | {name: math.nan}, args)) == 1, "what is no number is no good sign"
    setting = message.split()[-1].partition("=")[0]
    assert alarms_of(FINE | {name: over}, args.replace(**{setting: None})) == []


def test_training_and_comparisons_agree_on_the_kl() -> None:
    """Prevents a run without an alarm whose agents count as collapsed for their KL."""
    assert CORYConfig().max_kl_per_token == MAX_KL_PER_TOKEN


def test_an_alarm_is_said_once_and_counted_always(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a console full of the same line, and a metric that the console contradicts."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=3, min_entropy=99.0).train()
    told = capsys.readouterr().err
    for agent in ("agent_0", "agent_1"):
        assert told.count(f"alarm in iteration 1: {agent}'s entropy") == 1
        assert [line[f"{agent}/alarms"] for line in records(tmp_path)] == [1.0] * 3
    assert told.count("is under min_entropy=99.0") == 2
    trainer(tiny_gpt2_dir, tmp_path, max_steps=4, resume=True, min_entropy=None).train()
    told = capsys.readouterr().err
    assert "in iteration 4 there is no alarm of agent_1 any more" in told
    assert records(tmp_path)[-1]["pioneer/alarms"] == 0


def test_patience_ends_saved_and_goes_on_counting(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a collapsed run from costing a night, and a resume from forgetting its alarms."""
    options: dict[str, Any] = {"min_unique_share": 1.0, "batch_size": 16, "max_steps": 9}

    def team(**more: Any) -> Any:
        # Sixteen answers of one token: two are equal.
        return trainer(
            tiny_gpt2_dir, tmp_path, max_completion_length=1, temperature=0.05, **options | more
        )

    with pytest.raises(CollapseError, match="in 2 iterations in a row, the last in iteration 2"):
        team(alarm_patience=2).train()
    assert Checkpoints(tmp_path, limit=None).steps() == [2]
    with pytest.raises(CollapseError, match="in 3 iterations in a row, the last in iteration 3"):
        team(alarm_patience=2, resume=True).train()
    team(alarm_patience=None, resume=True, max_steps=5).train()
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3, 4, 5]
