"""Damaged checkpoints are known by their checksums, and the one before is used."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cory.io.checksums import SUMS
from cory.training.checkpoint import Checkpoints
from cory.training.runs import find_checkpoint
from tests.tiny_runs import records, same_bits, snapshot, trainer


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture(scope="module")
def finished(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of steps 1, 2 and 3."""
    run = tmp_path_factory.mktemp("runs") / "run"
    trainer(tiny_gpt2_dir, run, max_steps=3, save_steps=1, num_ppo_epochs=1).train()
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize("name", ["agent_1/model.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("harm", [flip_a_bit, cut_short, Path.unlink])
def test_damage_is_found_and_the_checkpoint_before_is_used(
    run: Path, name: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents an evaluation of weights that nobody trained."""
    harm(run / "checkpoints/step-3" / name)
    assert find_checkpoint(run) == run / "checkpoints/step-2"
    told = capsys.readouterr().err
    assert f"step-3 is damaged ({name} is " in told
    assert "using step-2 instead" in told
    with pytest.raises(ValueError, match=r"step-3 is damaged .*choose another step"):
        find_checkpoint(run, 3)
    assert find_checkpoint(run, 1) == run / "checkpoints/step-1"


def test_a_resumed_run_replaces_what_is_damaged(
    run: Path, finished: Path, tiny_gpt2_dir: Path
) -> None:
    """Prevents a damaged checkpoint from being left in place because its name is taken."""
    flip_a_bit(run / "checkpoints/step-3/state.safetensors")
    resumed = trainer(tiny_gpt2_dir, run, max_steps=4, save_steps=1, num_ppo_epochs=1, resume=True)
    resumed.train()
    checkpoints = Checkpoints(run, limit=None)
    assert checkpoints.steps() == [1, 2, 3, 4]
    assert (run / "checkpoints/step-3.damaged").is_dir()
    assert find_checkpoint(run, 3)
    names = ("checkpoints/step-3/state.safetensors", "checkpoints/step-3/agent_0/model.safetensors")
    assert all((run / name).read_bytes() == (finished / name).read_bytes() for name in names)
    assert [line["step"] for line in records(run)] == [1, 2, 3, 4]
    whole = trainer(tiny_gpt2_dir, run.parent / "whole", max_steps=4, num_ppo_epochs=1)
    whole.train()
    assert all(map(same_bits, map(snapshot, resumed.agents), map(snapshot, whole.agents)))


def test_a_run_without_a_sound_checkpoint_does_not_begin_again(
    run: Path, tiny_gpt2_dir: Path
) -> None:
    """Prevents a resume that throws all records away."""
    for step in (1, 2, 3):
        cut_short(run / f"checkpoints/step-{step}/state.safetensors")
    before = records(run)
    with pytest.raises(ValueError, match=r"no checkpoint is left to be used.*another output_dir"):
        trainer(tiny_gpt2_dir, run, max_steps=4, resume=True).train()
    assert records(run) == before


def test_checksums_are_those_of_the_usual_tool(run: Path) -> None:
    """Prevents a format that only this library can verify, and a list that is cut short."""
    path = run / "checkpoints/step-3"
    command = ["sha256sum", "--check", "--quiet", SUMS]
    assert subprocess.run(command, cwd=path).returncode == 0
    flip_a_bit(path / "state.json")
    assert subprocess.run(command, cwd=path, capture_output=True).returncode == 1
    flip_a_bit(path / "state.json")
    assert find_checkpoint(run) == path
    lines = (path / SUMS).read_text().splitlines(keepends=True)
    (path / SUMS).write_text("".join(lines[:-1]))
    assert find_checkpoint(run) == run / "checkpoints/step-2"
    (path / SUMS).unlink()
    assert find_checkpoint(run) == path, "an older version wrote none"
