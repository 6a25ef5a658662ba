"""Checkpoints of strangers, without checksums: used as they should be, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cory.io.checksums import SUMS
from cory.training.runs import find_checkpoint, open_run, save_merged
from tests.tiny_runs import settings, trainer

Change = Callable[[Any], Any]
CHECKPOINT = "checkpoints/step-1"


@pytest.fixture(scope="module")
def runs(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A run of full copies, and one of adapters."""
    found = {}
    for use_peft in (False, True):
        found[use_peft] = tmp_path_factory.mktemp("runs") / "run"
        options: dict[str, Any] = {"use_peft": use_peft, "max_steps": 1, "num_ppo_epochs": 1}
        trainer(tiny_gpt2_dir, found[use_peft], **options).train()
    return found


def foreign(run: Path, tmp_path: Path, name: str, change: Change) -> Path:
    """A copy of the run in which a JSON file of the checkpoint says something else."""
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / CHECKPOINT / SUMS).unlink()
    path = copy / CHECKPOINT / name
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return copy


def with_agents(**changes: Any) -> Change:
    return lambda state: (
        state | {"agents": {name: agent | changes for name, agent in state["agents"].items()}}
    )


def with_events(**changes: Any) -> Change:
    return lambda state: (
        state | {"progress": state["progress"] | {"events": state["progress"]["events"] | changes}}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: [state], r"state.json holds a JSON list"),
        (lambda state: state | {"progress": None}, "cannot be resumed: .*TypeError"),
        (lambda state: state | {"progress": {}}, "cannot be resumed: .*KeyError: 'events'"),
        (lambda state: state | {"agents": None}, "cannot be resumed"),
        (lambda state: state | {"random": {}}, "cannot be resumed: .*KeyError: 'python'"),
        (lambda state: state | {"step": 10**30}, "holds step 1000"),
        (lambda state: state | {"step": 1.0}, "holds step 1.0"),
        (with_events(global_step=-5), "says global_step=-5"),
        (with_agents(kl_coef=float("nan")), "agent_0 has a number that is not finite"),
        (with_agents(kl_coef="x"), "state of agent_0 is 'x'; it must be a number"),
        (with_agents(surprise=1), "cannot be resumed: .*TypeError"),
        (with_agents(reward_scalers={"pioneer": {"count": "x"}}), "is 'x'; it must be a number"),
    ],
)
def test_a_state_that_is_none(
    runs: dict[bool, Path], tiny_gpt2_dir: Path, tmp_path: Path, change: Change, message: str
) -> None:
    """Prevents a traceback, and a training that goes on from what no run has written."""
    run = foreign(runs[False], tmp_path, "state.json", change)
    metrics = (run / "metrics.jsonl").read_text()
    resumed = trainer(tiny_gpt2_dir, run, max_steps=2, num_ppo_epochs=1, resume=True)
    with pytest.raises(ValueError, match=message):
        resumed.train()
    assert (run / "metrics.jsonl").read_text() == metrics


def test_progress_that_is_none(runs: dict[bool, Path], tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the same where a run is only looked at."""
    run = foreign(runs[False], tmp_path, "state.json", lambda state: state | {"progress": []})
    with pytest.raises(ValueError, match=r"state.json: 'progress' is \[\], no object"):
        open_run(run, settings(tiny_gpt2_dir, run))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config | {"r": 8}, "its r is 8, and not 16"),
        (lambda config: config | {"rank_pattern": {"c_attn": 4}}, "its rank_pattern is"),
        (lambda config: config | {"peft_type": "XX"}, "agent_1.*XX"),
        (lambda config: [config], "adapter_config.json must hold a JSON object"),
    ],
)
@pytest.mark.parametrize("agent", ["agent_0", "agent_1"])
def test_an_adapter_that_is_none(
    runs: dict[bool, Path],
    tiny_gpt2_dir: Path,
    tmp_path: Path,
    agent: str,
    change: Change,
    message: str,
) -> None:
    """Prevents an adapter from acting on another scale than it was trained on."""
    run = foreign(runs[True], tmp_path, f"{agent}/adapter_config.json", change)
    with pytest.raises(ValueError, match="adapter|" + message):
        save_merged(open_run(run, settings(tiny_gpt2_dir, run, use_peft=True)), tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_a_rank_that_no_memory_holds(
    runs: dict[bool, Path], tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents terabytes from being asked for before the weights are looked at."""
    name = "agent_0/adapter_config.json"
    run = foreign(runs[True], tmp_path, name, lambda config: config | {"r": 10**12})
    with pytest.raises(ValueError, match="its rank r is 1000000000000; it must be a whole number"):
        _ = open_run(run, settings(tiny_gpt2_dir, run)).peft_config


def poison(path: Path) -> None:
    weights = load_file(path)
    name = min(weights)
    save_file(weights | {name: torch.full_like(weights[name], torch.nan)}, path, {"format": "pt"})


@pytest.mark.parametrize("use_peft", [False, True])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (poison, "are not finite"),
        (lambda path: path.write_bytes(b""), "do not fit the initial model"),
        (lambda path: path.write_bytes(b"\xff" * 100), "do not fit the initial model"),
        (lambda path: path.write_bytes((2**62).to_bytes(8, "little")), "do not fit"),
        (Path.unlink, "do not fit the initial model"),
    ],
)
def test_weights_that_are_none(
    runs: dict[bool, Path],
    tiny_gpt2_dir: Path,
    tmp_path: Path,
    harm: Callable[[Path], object],
    message: str,
    use_peft: bool,
) -> None:
    """Prevents a traceback, a download, and a merged model of NaN."""
    run = foreign(runs[use_peft], tmp_path, "state.json", lambda state: state)
    harm(next((run / CHECKPOINT / "agent_1").glob("*model.safetensors")))
    subject = open_run(run, settings(tiny_gpt2_dir, run, use_peft=use_peft))
    with pytest.raises(ValueError, match=f"agent_1.*{message}"):
        save_merged(subject, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_a_mean_does_not_become_a_checkpoint(
    runs: dict[bool, Path], tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a merged model in the place of the next checkpoint."""
    run = shutil.copytree(runs[False], tmp_path / "run")
    subject = open_run(run, settings(tiny_gpt2_dir, run))
    (tmp_path / "link").symlink_to(run / "checkpoints")
    for place in ("run/checkpoints/step-2", "run/checkpoints/step-1/agent_2", "link/x"):
        with pytest.raises(ValueError, match="lies among the run's checkpoints"):
            save_merged(subject, tmp_path / place)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-1"]


def test_names_that_are_no_steps(runs: dict[bool, Path], tmp_path: Path) -> None:
    """Prevents a folder that a run has not written from being taken for its newest checkpoint."""
    run = shutil.copytree(runs[False], tmp_path / "run")
    for name in ("step-002", "step-\u0663", "step-" + "9" * 200, "step-2.damaged"):
        (run / "checkpoints" / name).mkdir()
    assert find_checkpoint(run) == run / CHECKPOINT
