"""Checkpoints: exact resume, crashes, and agents that load without this library."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from cory import CORYTrainer
from cory.io.files import OutputError
from cory.rewards.calling import RewardError
from cory.training.checkpoint import Checkpoints, load_checkpoint
from tests.tiny_runs import queries, records, same_bits, snapshot, trainer

EVERYTHING = {
    "role_exchange_period": 3,
    "kl_controller": "adaptive",
    "kl_target": 1.0,
    "kl_horizon": 50,
    "normalize_rewards": True,
    "elastic_reset_period": 4,
    "elastic_reset_decay": 0.9,
    "weight_average_decay": 0.7,
    "merge_on_exchange": 0.5,
    "transfer_min_lift": 0.0,
    "transfer_back_weight": 0.5,
    "partner_samples_weight": 0.5,
    "num_mini_batches": 2,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "weight_decay": 0.01,
    "min_completion_length": 3,
    "num_ppo_epochs": 1,
    "eval_steps": 4,
    "log_samples_steps": None,
}
"""All that has a state, or depends on the step."""


def noisy(completions: list[str], **columns: Any) -> list[float]:
    """A reward that draws from global generators.

    Python's own has a test of its own: beartype, under which tests run, draws from it too.
    """
    return [len(text) / 10 + np.random.rand() + float(torch.rand(())) for text in completions]


def everything(model: Path, output_dir: Path, **options: Any) -> CORYTrainer:
    return trainer(
        model,
        output_dir,
        reward_funcs=noisy,
        eval_dataset=queries(4),
        **(EVERYTHING | {"max_steps": 10, "save_steps": 5} | options),
    )


def assert_same_run(team: CORYTrainer, other: CORYTrainer) -> None:
    assert all(map(same_bits, map(snapshot, team.agents), map(snapshot, other.agents)))
    assert [agent.state for agent in team.agents] == [agent.state for agent in other.agents]
    ours, theirs = records(team.args.output_dir), records(other.args.output_dir)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    assert ours == theirs
    assert (
        team.optimizer.state_dict()["param_groups"]
        == (other.optimizer.state_dict()["param_groups"])
    )


class KillAfter(TrainerCallback):
    """Ends training right after what one step measured was written down."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def disturb_global_generators() -> None:
    """Leave them as another process would have them."""
    random.seed(12)
    np.random.seed(34)
    torch.manual_seed(56)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("tiny_gpt2_dir", {}),
        ("tiny_llama_dir", {"use_peft": True}),
        # Then the folders of the agents are what is trained on.
        ("tiny_gpt2_dir", {"weight_average_decay": None}),
    ],
    ids=["full", "adapters", "without an average"],
)
def test_ten_iterations_are_five_and_five(
    request: pytest.FixtureRequest, tmp_path: Path, model: str, options: dict[str, Any]
) -> None:
    """Prevents a resume that loses or changes anything that a later iteration depends on."""
    directory = request.getfixturevalue(model)
    whole = everything(directory, tmp_path / "whole", **options)
    whole.train()
    first = everything(directory, tmp_path / "parts", callbacks=[KillAfter(7)], **options)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    disturb_global_generators()
    second = everything(directory, tmp_path / "parts", resume=True, **options)
    second.train()
    assert_same_run(second, whole)


def test_an_average_of_weights_may_be_given_up_or_begun_at_a_resume(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents the average, which is what a checkpoint's folders hold, from being trained on."""
    trainer(tiny_gpt2_dir, tmp_path / "kept", max_steps=3, weight_average_decay=0.5).train()
    options: dict[str, Any] = {"resume": True, "eval_dataset": queries(4)}
    given_up = trainer(tiny_gpt2_dir, tmp_path / "kept", max_steps=4, **options)
    given_up.train()
    plain = trainer(tiny_gpt2_dir, tmp_path / "plain", max_steps=4)
    plain.train()
    assert all(map(same_bits, map(snapshot, given_up.agents), map(snapshot, plain.agents)))
    folders = [tmp_path / name / "checkpoints/step-4/agent_1" for name in ("kept", "plain")]
    ours, theirs = (load_file(folder / "model.safetensors") for folder in folders)
    assert same_bits(ours, theirs)

    begun = trainer(
        tiny_gpt2_dir, tmp_path / "plain", max_steps=4, weight_average_decay=0.5, **options
    )
    metrics = begun.train()
    assert metrics == given_up.evaluate(), "nothing is averaged yet"


def test_a_crash_loses_nothing_before_the_last_checkpoint(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a run that cannot go on after its reward function has failed."""
    calls = 0

    def failing(**inputs: Any) -> list[float]:
        nonlocal calls
        calls += 1
        if calls == 2 * 6 + 1:
            raise ConnectionError("the judge is away")
        return noisy(**inputs)

    # Metrics carry the function's name.
    failing.__name__ = noisy.__name__
    options = {"max_steps": 8, "save_steps": 2, "num_ppo_epochs": 1}

    def team(name: str, reward: Any, **more: Any) -> CORYTrainer:
        return trainer(tiny_gpt2_dir, tmp_path / name, reward, **options, **more)

    whole = team("whole", noisy)
    whole.train()
    with pytest.raises(RewardError, match=r"'noisy' raised ConnectionError: the judge is away"):
        team("crashed", failing).train()
    assert [line["step"] for line in records(tmp_path / "crashed")] == [1, 2, 3, 4, 5, 6]
    assert Checkpoints(tmp_path / "crashed", limit=None).steps()[-1] == 6
    disturb_global_generators()
    resumed = team("crashed", noisy, resume=True)
    resumed.train()
    assert_same_run(resumed, whole)


def test_a_run_without_checkpoint_begins_again(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents records of the first attempt from staying beside those of the second."""
    options = {"eval_dataset": queries(2), "eval_steps": 1}
    team = trainer(tiny_gpt2_dir, tmp_path, callbacks=[KillAfter(1)], **options)
    with pytest.raises(KeyboardInterrupt):
        team.train()
    trainer(tiny_gpt2_dir, tmp_path, resume=True, **options).train()
    assert [line["step"] for line in records(tmp_path)] == [0, 1, 1, 2, 2]


def test_a_crash_while_saving_leaves_the_checkpoint_before(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a half-written checkpoint from being taken for the newest."""
    team = trainer(tiny_gpt2_dir, tmp_path, max_steps=3, save_steps=1)
    written = []

    def save_pretrained(directory: Path) -> None:
        written.append(directory)
        if len(written) == 4:
            raise OSError("no space left on device")

    team.tokenizer.save_pretrained = save_pretrained
    with pytest.raises(OutputError, match="step-2 could not be written: no space left"):
        team.train()
    assert team.checkpoints.steps()[-1] == 1
    names = [path.name for path in team.checkpoints.directory.iterdir()]
    assert names == ["step-1"], "what is incomplete may be what fills the disk"
    resumed = trainer(tiny_gpt2_dir, tmp_path, max_steps=3, save_steps=1, resume=True)
    resumed.train()
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3]
    assert sorted(path.name for path in team.checkpoints.directory.iterdir()) == [
        "step-1",
        "step-2",
        "step-3",
    ]


def test_old_checkpoints_are_removed(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a full disk, and a limit that sorts step-10 before step-9."""
    team = trainer(tiny_gpt2_dir, tmp_path, save_total_limit=2)
    for step in (8, 9, 10, 11):
        team.save(step)
    kept = sorted(path.name for path in team.checkpoints.directory.iterdir())
    assert kept == ["step-10", "step-11"]
    assert team.checkpoints.steps()[-1] == 11


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    """Prevents other files in the directory from being taken for checkpoints."""
    for name in (".step-4.partial", "step-", "step-5.old", "best"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert Checkpoints(tmp_path, limit=None).steps() == []
    assert Checkpoints(tmp_path / "absent", limit=None).steps() == []


def test_a_finished_run_stays_as_it_is(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a second start from adding records, or from training on."""
    options = {"eval_dataset": queries(4), "max_steps": 2}
    result = trainer(tiny_gpt2_dir, tmp_path, **options).train()
    before = contents(tmp_path)
    resumed = trainer(tiny_gpt2_dir, tmp_path, resume=True, **options)
    assert resumed.train() == result
    assert contents(tmp_path) == before


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_a_finished_run_goes_on_with_more_steps(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a longer run from beginning again, or from differing from one long run."""
    whole = trainer(tiny_gpt2_dir, tmp_path / "whole", max_steps=4)
    whole.train()
    trainer(tiny_gpt2_dir, tmp_path / "parts", max_steps=2).train()
    longer = trainer(tiny_gpt2_dir, tmp_path / "parts", max_steps=4, resume=True)
    longer.train()
    assert_same_run(longer, whole)


def test_another_number_of_agents_is_refused(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an agent from going on with weights that are not its own."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    before = contents(tmp_path)
    team = trainer(tiny_gpt2_dir, tmp_path, num_agents=3, resume=True)
    with pytest.raises(ValueError, match=r"holds agent_0, agent_1, but this run has .*num_agents"):
        team.train()
    assert contents(tmp_path) == before


def test_changed_settings_are_announced_and_used(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents two experiments from passing as one, and a new setting from doing nothing."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    same = {"max_steps": 2, "resume": True, "save_steps": 1, "logging_steps": 1}
    trainer(tiny_gpt2_dir, tmp_path, **same).train()
    assert "other settings" not in capsys.readouterr().err
    changed = {**same, "max_steps": 3, "learning_rate": 0.0, "lam": 0.5}
    team = trainer(tiny_gpt2_dir, tmp_path, **changed)
    before = load_file(tmp_path / "checkpoints/step-2/agent_0/model.safetensors")
    team.train()
    message = capsys.readouterr().err
    assert "learning_rate: 0.001 → 0.0" in message
    assert "lam: 0.95 → 0.5" in message
    assert "max_steps" not in message
    after = load_file(tmp_path / "checkpoints/step-3/agent_0/model.safetensors")
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
@pytest.mark.parametrize("model", ["tiny_gpt2_dir", "tiny_llama_dir"])
def test_agents_load_without_this_library(
    request: pytest.FixtureRequest, tmp_path: Path, model: str, options: dict[str, Any]
) -> None:
    """Prevents a result that only its maker can use."""
    directory = request.getfixturevalue(model)
    team = trainer(directory, tmp_path, **options)
    team.train()
    logits = []
    for agent in team.agents:
        folder = tmp_path / "checkpoints" / "step-2" / agent.name
        if options:
            base = AutoModelForCausalLM.from_pretrained(directory)
            loaded = PeftModel.from_pretrained(base, str(folder))
        else:
            loaded = AutoModelForCausalLM.from_pretrained(folder)
        tokens = AutoTokenizer.from_pretrained(folder)("The film was", return_tensors="pt")
        with torch.no_grad():
            theirs = loaded.eval()(**tokens).logits
            hidden = agent.policy.hidden_states(tokens["input_ids"])
            ours = agent.policy.logits(hidden, temperature=1.0)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        logits.append(ours)
    assert not torch.allclose(*logits, atol=1e-3)


def test_global_generators_go_on_from_the_checkpoint(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a reward function that draws random numbers from drawing others after a resume."""
    team = trainer(tiny_gpt2_dir, tmp_path)
    team.iterate(0)
    path = team.save(1)
    saved = json.loads((path / "state.json").read_text())["random"]
    version, internal, gauss = saved["python"]
    as_saved = random.Random()
    as_saved.setstate((version, tuple(internal), gauss))
    expected = [np.random.rand(), float(torch.rand(()))]
    disturb_global_generators()
    load_checkpoint(path, team.agents, team.optimizer, team.scheduler)
    assert [np.random.rand(), float(torch.rand(()))] == expected
    # Checking the types of what was called since has drawn some numbers.
    assert random.getrandbits(32) in [as_saved.getrandbits(32) for _ in range(100)]


def test_state_is_readable(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a checkpoint that must be unpickled, which runs whatever it holds."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    folder = tmp_path / "checkpoints" / "step-1"
    assert json.loads((folder / "state.json").read_text())["step"] == 1
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".txt",
        ".jinja",
        ".md",
    }
