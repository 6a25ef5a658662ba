"""Two processes do what one does; what happens to one of them happens to all."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests import together
from tests.tiny_runs import records

# Two processes on two busy cores take their time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SMOOTH = {"adam_epsilon": 1e-4}
"""Where a gradient is 0 but for rounding (a bias of keys), Adam would follow the rounding."""
# With seed 0 a random number lies within rounding of the border between two tokens.
RICH = {
    **SMOOTH,
    "seed": 1,
    "max_steps": 3,
    "role_exchange_period": 1,
    "kl_controller": "adaptive",
    "kl_target": 1.0,
    "kl_horizon": 50,
    "normalize_rewards": True,
    "elastic_reset_period": 2,
    "elastic_reset_decay": 0.9,
    "weight_average_decay": 0.7,
    "merge_on_exchange": 0.5,
    "transfer_back_weight": 0.5,
    "partner_samples_weight": 0.5,
    "num_mini_batches": 2,
    "per_device_train_batch_size": 2,
    "num_generations": 2,
    "eval_steps": 2,
    "log_samples_steps": 2,
    "num_eval_queries": 5,
}
# Three mini-batches of four answers, two of them of a single one; one held-out query.
RAGGED = {
    **SMOOTH,
    "max_steps": 3,
    "batch_size": 4,
    "num_mini_batches": 3,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "kl_estimator": "full",
    "kl_placement": "both",
    "num_eval_queries": 1,
    "normalize_rewards": True,
}
MODES = {
    "full": ("tiny_gpt2_dir", RICH),
    "adapters": ("tiny_llama_dir", {**RICH, "use_peft": True, "evaluate_merged": True}),
    "sharded": ("tiny_llama_dir", {**RICH, "shard_weights": True}),
    "declined": ("tiny_llama_dir", {**RICH, "trouble": "declines", "num_mini_batches": 4}),
    "ragged": ("tiny_llama_dir", RAGGED),
    "ragged adapters": ("tiny_gpt2_dir", {**RAGGED, "use_peft": True}),
    "ragged sharded": (
        "tiny_gpt2_dir",
        {**RAGGED, "shard_weights": True, "gradient_checkpointing": True},
    ),
}
RESUMED = ("full", "sharded")


@pytest.fixture(scope="module")
def pairs(
    tiny_gpt2_dir: Path, tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Every mode, trained by two processes in `two/` and by this one in `one/`.

    What the two have trained they continue in `resumed/`.
    """
    directory = tmp_path_factory.mktemp("pairs")
    models = {"tiny_gpt2_dir": str(tiny_gpt2_dir), "tiny_llama_dir": str(tiny_llama_dir)}
    plan = [
        {"model": models[model], "output_dir": str(directory / "two" / name), **options}
        for name, (model, options) in MODES.items()
    ]
    runs = dict(zip(MODES, plan, strict=True))
    resumed = [
        {
            **runs[name],
            "output_dir": str(directory / "resumed" / name),
            "start_from": runs[name]["output_dir"],
            "max_steps": 5,
        }
        for name in RESUMED
    ]
    done = together.launch([*plan, *resumed], directory)
    assert done.returncode == 0, done.stderr
    (directory / "stderr").write_text(done.stderr)
    for name, training in runs.items():
        together.train(**training | {"output_dir": str(directory / "one" / name)})
    return directory


def assert_same_tensors(ours: Path, theirs: Path) -> None:
    left, right = load_file(ours), load_file(theirs)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        difference = (tensor.double() - right[name].double()).abs().max()
        assert difference <= 1e-5, f"{name}: {difference:.3g}"


def assert_same_numbers(ours: Any, theirs: Any, where: str = "") -> None:
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            assert_same_numbers(value, theirs[key], f"{where}/{key}")
    elif isinstance(ours, float):
        assert math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-5), f"{where}: {ours} {theirs}"
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_are_one(pairs: Path, mode: str) -> None:
    """Prevents statistics of a shard, losses over local tokens, answers that hang on a process."""
    ours, theirs = pairs / "two" / mode, pairs / "one" / mode
    for line, other in zip(records(ours), records(theirs), strict=True):
        assert_same_numbers(line, other, f"step {line['step']}")
    folders = [directory / "checkpoints" / "step-3" for directory in (ours, theirs)]
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in folders]
    assert files[0] == files[1]
    for file in files[0]:
        if file.suffix == ".safetensors":
            assert_same_tensors(*(folder / file for folder in folders))
    states = [json.loads((folder / "state.json").read_text())["agents"] for folder in folders]
    assert_same_numbers(*states)


def test_only_the_first_process_prints_and_writes(pairs: Path) -> None:
    """Prevents doubled lines in metrics, on the console, and in the list of starts."""
    for mode in MODES:
        lines = (pairs / "stderr").read_text().splitlines()
        assert lines.count(f"cory → {pairs / 'two' / mode}") == 1
        starts = (pairs / "two" / mode / "environment.jsonl").read_text().splitlines()
        assert len(starts) == 1


@pytest.mark.parametrize("mode", RESUMED)
def test_a_run_goes_on_with_another_number_of_processes(
    pairs: Path, request: pytest.FixtureRequest, tmp_path: Path, mode: str
) -> None:
    """Prevents a checkpoint that only as many processes can read as have written it."""
    name, options = MODES[mode]
    longer = {"model": str(request.getfixturevalue(name)), **options, "max_steps": 5}
    together.train(**longer, output_dir=str(tmp_path / "whole"))
    together.train(
        **longer, output_dir=str(tmp_path / "resumed"), start_from=str(pairs / "two" / mode)
    )
    for run in (tmp_path / "resumed", pairs / "resumed" / mode):
        for file in ("state.safetensors", "agent_0/model.safetensors", "agent_1/model.safetensors"):
            path = Path("checkpoints", "step-5", file)
            assert_same_tensors(run / path, tmp_path / "whole" / path)


TROUBLES = {
    "raises": "process 1 of 2 failed, so all stop: RewardError: .*the judge is away",
    "dies": "Signal 9",
    "sticks": "did not answer within ddp_timeout=10 seconds",
}


@pytest.mark.parametrize(
    ("trouble", "sharded"),
    [("raises", False), ("dies", False), ("dies", True), ("sticks", False)],
)
def test_what_happens_to_one_process_ends_all(
    tiny_gpt2_dir: Path, tmp_path: Path, trouble: str, sharded: bool
) -> None:
    """Prevents processes that wait forever for one that has failed, died or stuck."""
    training = {
        "model": str(tiny_gpt2_dir),
        "output_dir": str(tmp_path / "run"),
        "trouble": trouble,
        "ddp_timeout": 10,
        "max_steps": 4,
        "save_steps": 1,
        "shard_weights": sharded,
    }
    done = together.launch([training], tmp_path)
    assert done.returncode != 0
    began = (tmp_path / "trouble").stat().st_mtime
    assert time.time() - began < 60
    message = " ".join(done.stderr.split())
    assert re.search(TROUBLES[trouble], message), done.stderr
    # What was complete stays.
    assert (tmp_path / "run" / "checkpoints" / "step-1" / "state.json").is_file()


def test_a_signal_to_one_process_stops_all_saved(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents one process from leaving while the others go on, or from a save that waits."""
    training = {
        "model": str(tiny_gpt2_dir),
        "output_dir": str(tmp_path / "run"),
        "trouble": "is told to stop",
        "max_steps": 4,
    }
    done = together.launch([training], tmp_path)
    assert done.returncode != 0
    assert "SIGTERM: will save after this iteration and stop" in done.stderr
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert len(saved) == 1
    assert saved[0] in ("step-1", "step-2")
    assert done.stderr.count(f"{saved[0]}; --resume goes on there") == 1
