"""The run directory: settings and metrics as files."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from cory.config import CORYConfig
from cory.io.objects import complete_lines
from cory.training.environment import environment
from cory.training.records import load_config
from tests.tiny_runs import records, trainer


def test_settings_are_written_and_read_back(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a run whose settings cannot be known any more."""
    team = trainer(tiny_gpt2_dir, tmp_path, learning_rate=[1e-3, 1e-5], max_steps=1)
    team.train()
    assert load_config(tmp_path) == team.args
    assert list(yaml.safe_load((tmp_path / "config.yaml").read_text())) == [
        field.name for field in fields(CORYConfig)
    ]


def test_a_resumed_run_is_not_resumed_for_ever(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents `config.yaml`, used as a recipe, from continuing another run."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1, resume=True).train()
    assert load_config(tmp_path).resume is False


def test_every_start_says_what_it_computes_with(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents numbers whose second half came from another version unnoticed."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    trainer(tiny_gpt2_dir, tmp_path, max_steps=2, resume=True).train()
    lines = (tmp_path / "environment.jsonl").read_text().splitlines()
    starts = [json.loads(line) for line in lines]
    assert [start["after_step"] for start in starts] == [0, 1]
    assert starts[1] == {"after_step": 1, **environment()}


def test_what_is_no_run_directory(tmp_path: Path) -> None:
    """Prevents a run of defaults where a path was mistyped."""
    with pytest.raises(ValueError, match=r"is not a run directory: it has no config.yaml"):
        load_config(tmp_path)


def test_a_resume_tells_which_settings_are_another_experiment(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a changed η that nobody hears of, and a warning about one more iteration."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    capsys.readouterr()
    trainer(tiny_gpt2_dir, tmp_path, max_steps=2, logging_steps=2, resume=True).train()
    assert "different experiments" not in capsys.readouterr().err
    trainer(tiny_gpt2_dir, tmp_path, max_steps=3, kl_coef=0.7, resume=True).train()
    assert "different experiments: kl_coef: 0.05 → 0.7\n" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_can_be_continued(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents finished work from being lost to a setting that was renamed."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1, normalize_rewards=True).train()
    path = tmp_path / "config.yaml"
    saved = yaml.safe_load(path.read_text())
    for name in ("normalize_rewards", "collapse_alarms"):
        del saved[name]
    saved |= {"use_score_scaling": True, "use_score_norm": True, "min_entropy": 0.01}
    path.write_text(yaml.safe_dump(saved))
    assert load_config(tmp_path).normalize_rewards
    capsys.readouterr()
    trainer(tiny_gpt2_dir, tmp_path, max_steps=2, normalize_rewards=True, resume=True).train()
    assert "different experiments" not in capsys.readouterr().err
    assert "use_score_scaling" not in path.read_text()


def test_metrics_exist_under_agent_and_role(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents curves that mix roles after an exchange."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=3, role_exchange_period=1, num_agents=3).train()
    orders = ({0: "pioneer", 1: "observer", 2: "observer_2"}, {1: "pioneer", 0: "observer_2"})
    for line, order in zip(records(tmp_path), orders, strict=False):
        for agent, role in order.items():
            mine = {
                key.removeprefix(f"agent_{agent}/"): value
                for key, value in line.items()
                if key.startswith(f"agent_{agent}/")
            }
            theirs = {
                key.removeprefix(f"{role}/"): value
                for key, value in line.items()
                if key.startswith(f"{role}/")
            }
            assert mine == theirs
            assert len(mine) > 20


def test_totals_go_on_over_a_resume(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a resumed run from looking cheaper than it was."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    trainer(tiny_gpt2_dir, tmp_path, max_steps=2, resume=True).train()
    first, second = records(tmp_path)
    assert (first["total_samples"], second["total_samples"]) == (16, 32)
    assert second["total_tokens"] > first["total_tokens"] > 16 * 2


def test_only_every_so_many_steps_are_logged(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a last step that nobody wrote down."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=5, logging_steps=2).train()
    assert [line["step"] for line in records(tmp_path)] == [2, 4, 5]


def test_an_output_directory_that_holds_a_comparison(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a run whose page nobody sees, since that of the comparison is shown."""
    (tmp_path / "comparison.yaml").touch()
    with pytest.raises(ValueError, match=r"holds a comparison .*choose another output_dir"):
        trainer(tiny_gpt2_dir, tmp_path)


def test_an_output_directory_that_holds_a_run(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a second run from writing over the first."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    with pytest.raises(ValueError, match=r"holds a run already: .*resume=True .*output_dir"):
        trainer(tiny_gpt2_dir, tmp_path)


@pytest.mark.parametrize("kept", ["", '{"step": 1', None])
def test_lost_metrics_are_told(
    kept: str | None, tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a resumed run whose report begins in its middle, without a word."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=2).train()
    path = tmp_path / "metrics.jsonl"
    path.unlink()
    if kept is not None:
        path.write_text(kept)
    trainer(tiny_gpt2_dir, tmp_path, max_steps=3, resume=True).train()
    assert "has only 0 of the 2 records that came before the checkpoint" in capsys.readouterr().err
    assert [line["step"] for line in records(tmp_path)] == [3]


def test_a_pipe_in_the_place_of_metrics_is_refused(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a read that never ends."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    (tmp_path / "metrics.jsonl").unlink()
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"metrics.jsonl is a pipe"):
        trainer(tiny_gpt2_dir, tmp_path, max_steps=2, resume=True).train()
    with pytest.raises(ValueError, match=r"metrics.jsonl is a pipe"):
        list(complete_lines(tmp_path / "metrics.jsonl"))
