"""Work is on disk before anything can fail: rewards, callbacks, evaluations, second trainings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import EarlyStoppingCallback, TrainerCallback

from cory.training.checkpoint import Checkpoints
from cory.training.trainer import CORYTrainer
from tests.tiny_runs import (
    queries,
    records,
    same_bits,
    share_of_letters,
    snapshot,
    trainer,
)

STEPS = 4
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS,
    "num_ppo_epochs": 1,
    "batch_size": 4,
    "log_samples_steps": 3,
    "eval_dataset": queries(2),
}


class FailingReward:
    """Raises in its `at`-th call, or never."""

    def __init__(self, at: int | None = None) -> None:
        self.__name__ = share_of_letters.__name__
        self.at, self.calls = at, 0

    def __call__(self, **inputs: Any) -> list[float]:
        self.calls += 1
        if self.calls == self.at:
            raise ConnectionError("the judge is away")
        return share_of_letters(**inputs)


class FailingCallback(TrainerCallback):
    """Raises in an event at a step."""

    def __init__(self, event: str, step: int) -> None:
        self.step = step
        setattr(self, event, self.fail)

    def fail(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise ConnectionError("the tracker is away")


def saved(run: Path) -> list[int]:
    return Checkpoints(run, limit=None).steps()


@pytest.fixture(scope="module")
def undisturbed(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> CORYTrainer:
    whole = trainer(tiny_gpt2_dir, tmp_path_factory.mktemp("run"), FailingReward(), **SETTINGS)
    whole.train()
    return whole


def reward(at: int) -> dict[str, Any]:
    return {"reward_funcs": FailingReward(at)}


def callback(event: str, step: int) -> dict[str, Any]:
    return {"callbacks": [FailingCallback(event, step)]}


# Two calls in an iteration, one more for the samples of the third, two in the last evaluation.
@pytest.mark.parametrize(
    ("faulty", "kept"),
    [
        (reward(at=1), []),
        (reward(at=2 * 2 + 2), [2]),
        (reward(at=2 * 2 + 3), [2]),
        (reward(at=2 * 4 + 2), [STEPS]),
        (reward(at=2 * 4 + 3), [STEPS]),
        (callback("on_train_begin", 0), []),
        (callback("on_step_begin", 2), [2]),
        (callback("on_step_end", 2), [2]),
        (callback("on_log", 2), [2]),
        (callback("on_save", STEPS), [STEPS]),
        (callback("on_evaluate", STEPS), [STEPS]),
        (callback("on_train_end", STEPS), [STEPS]),
    ],
)
def test_what_fails_costs_no_iteration(
    tiny_gpt2_dir: Path,
    tmp_path: Path,
    undisturbed: CORYTrainer,
    faulty: dict[str, Any],
    kept: list[int],
) -> None:
    """Prevents a whole run from being lost to its last evaluation, or to any callback.

    Resumed with what does not fail it is the undisturbed run, bit for bit.
    """
    options = {"reward_funcs": FailingReward(), **SETTINGS, **faulty}
    team = trainer(tiny_gpt2_dir, tmp_path, **options)
    with pytest.raises((ValueError, ConnectionError), match="away"):
        team.train()
    assert saved(tmp_path) == kept
    again = trainer(tiny_gpt2_dir, tmp_path, FailingReward(), resume=True, **SETTINGS)
    again.train()
    assert all(map(same_bits, map(snapshot, again.agents), map(snapshot, undisturbed.agents)))
    assert records(tmp_path) == records(undisturbed.args.output_dir)


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt()])
def test_a_callback_that_ends_the_process_costs_no_iteration(
    error: BaseException, tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents `sys.exit()` in a callback from ending a run as a success that saved nothing."""

    class End(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            raise error

    with pytest.raises(type(error)):
        trainer(tiny_gpt2_dir, tmp_path, callbacks=[End()], **SETTINGS).train()
    assert saved(tmp_path) == [1]


def test_half_an_update_is_not_saved(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a checkpoint of one agent that has learnt and another that has not."""
    team = trainer(tiny_gpt2_dir, tmp_path, max_steps=3)
    learn = team.agents[1].update

    def fail(record: Any, step: int, *more: Any) -> Any:
        if step == 1:
            raise ConnectionError
        return learn(record, step, *more)

    monkeypatch.setattr(team.agents[1], "update", fail)
    with pytest.raises(ConnectionError):
        team.train()
    assert saved(tmp_path) == []


def test_a_trainer_trains_once(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a second training that says "saved" and writes nothing."""
    team = trainer(tiny_gpt2_dir, tmp_path, max_steps=1)
    team.train()
    before = records(tmp_path)
    with pytest.raises(ValueError, match=r"has trained already, .*: make a new one.*resume=True"):
        team.train()
    assert records(tmp_path) == before


@pytest.mark.parametrize("lost", [["config.yaml"], ["config.yaml", "metrics.jsonl"]])
def test_a_run_that_lost_its_settings_is_not_taken_for_an_empty_directory(
    tiny_gpt2_dir: Path, tmp_path: Path, lost: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a new run from passing an old one's checkpoints for its own."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    for name in lost:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"holds a run already: .* is there.*resume=True"):
        trainer(tiny_gpt2_dir, tmp_path, max_steps=1)
    capsys.readouterr()
    trainer(tiny_gpt2_dir, tmp_path, max_steps=2, resume=True).train()
    assert saved(tmp_path) == [1, 2]
    told = capsys.readouterr().err
    assert "config.yaml is lost; resuming under the settings that are given now" in told
    assert "different experiments" not in told


def test_a_checkpoint_of_another_run_is_not_called_saved(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents "saved …/step-2" where step-2 was copied there meanwhile."""
    other = trainer(tiny_gpt2_dir, tmp_path / "other", max_steps=2, seed=7)
    other.train()
    run = tmp_path / "run"

    class Intrude(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                shutil.copytree(tmp_path / "other/checkpoints", run / "checkpoints")

    team = trainer(tiny_gpt2_dir, run, max_steps=2, callbacks=[Intrude()])
    team.train()
    assert "step-2 was not of this run; it is now" in capsys.readouterr().err
    weights = "checkpoints/step-2/agent_0/model.safetensors"
    assert (run / weights).read_bytes() != (tmp_path / "other" / weights).read_bytes()
    assert (run / "checkpoints/step-2.other").is_dir()


class Stop(TrainerCallback):
    """Asks for an end in an event of iteration 2."""

    def __init__(self, event: str) -> None:
        setattr(self, event, self.stop)

    def stop(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop |= state.global_step == 2


class Interrupt(TrainerCallback):
    """Ends the process, as good as, where a checkpoint has been written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize(
    ("event", "save_steps"),
    [("on_step_end", None), ("on_step_end", 2), ("on_save", 2), ("on_evaluate", 2)],
)
def test_a_run_that_a_callback_stopped_stays_stopped(
    event: str, save_steps: int | None, is_killed: bool, tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a resume that trains on what early stopping had ended."""

    def team(*more: TrainerCallback, **options: Any) -> CORYTrainer:
        return trainer(
            tiny_gpt2_dir,
            tmp_path,
            callbacks=[Stop(event), *more],
            eval_dataset=queries(2),
            eval_steps=2,
            save_steps=save_steps,
            num_ppo_epochs=1,
            **options,
        )

    if is_killed:
        with pytest.raises(KeyboardInterrupt):
            team(Interrupt(), max_steps=6).train()
    else:
        team(max_steps=6).train()
    for more in (6, 9):
        team(max_steps=more, resume=True).train()
        assert [line["step"] for line in records(tmp_path)] == [0, 1, 2, 2]
        assert saved(tmp_path) == [2]


def test_early_stopping_stays_stopped(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents patience that has run out from being granted once more at each resume."""

    def falling(completions: list[str], **columns: Any) -> list[float]:
        return [0.0] * len(completions)

    for max_steps in (9, 9, 12):
        team = trainer(
            tiny_gpt2_dir,
            tmp_path,
            falling,
            callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
            eval_dataset=queries(2),
            eval_steps=1,
            metric_for_best_model="task_reward",
            num_ppo_epochs=1,
            max_steps=max_steps,
            resume=True,
        )
        team.train()
        assert team.events.state.global_step == 2


@pytest.mark.parametrize(
    ("greater_is_better", "values", "best"),
    [
        (False, [2.0, float("nan"), 1.0], 1.0),
        (True, [2.0, float("nan"), 1.0], 2.0),
        (True, [float("nan"), 1.0, 1.0], 1.0),
    ],
)
def test_nan_is_never_the_best(
    tiny_gpt2_dir: Path, tmp_path: Path, greater_is_better: bool, values: list[float], best: float
) -> None:
    """Prevents a metric that was not a number from being the one that none can beat."""
    events = trainer(
        tiny_gpt2_dir,
        tmp_path,
        metric_for_best_model="kl",
        eval_steps=1,
        greater_is_better=greater_is_better,
        eval_dataset=queries(2),
    ).events
    events.handler.callbacks.clear()
    for value in values:
        events.evaluated({"kl": value})
    assert events.state.best_metric == best


def test_the_history_of_a_long_run_stays_short(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents memory that grows by 16 KB with each iteration."""
    events = trainer(tiny_gpt2_dir, tmp_path).events
    events.handler.callbacks.clear()
    for step in range(1000):
        events.logged(step, {"kl": 1.0})
    assert [entry["step"] for entry in events.state.log_history] == list(range(900, 1000))


def damage_behind(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"step": 3, "kl": \xff\x00\n')


def damage_before(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"[1]\n", *lines[2:]]))


@pytest.mark.parametrize("harm", [damage_behind, damage_before])
def test_a_damaged_line_of_metrics(
    tiny_gpt2_dir: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Prevents a resume that is refused for a line it would drop, and a message without a place."""
    options: dict[str, Any] = {"num_ppo_epochs": 1, "max_steps": 2}
    trainer(tiny_gpt2_dir, tmp_path, **options).train()
    path = tmp_path / "metrics.jsonl"
    harm(path)
    config, damaged = (tmp_path / "config.yaml").read_bytes(), path.read_bytes()
    team = trainer(tiny_gpt2_dir, tmp_path, **{**options, "max_steps": 3, "resume": True})
    if harm is damage_before:
        with pytest.raises(ValueError, match=r"metrics.jsonl, line 2, holds a JSON list"):
            team.train()
        assert (config, damaged) == ((tmp_path / "config.yaml").read_bytes(), path.read_bytes())
    else:
        team.train()
        assert [line["step"] for line in records(tmp_path)] == [1, 2, 3]


def test_elastic_reset_may_begin_at_a_resume(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents KeyError: 'agent_0/elastic_average/0', and an average of the initial weights."""
    options: dict[str, Any] = {"num_ppo_epochs": 1, "max_steps": 2}
    trainer(tiny_gpt2_dir, tmp_path, **options).train()
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        elastic_reset_period=2,
        resume=True,
        **{**options, "max_steps": 3},
    )
    begun: list[dict[str, Any]] = []

    class Look(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            begun.extend(snapshot(agent) for agent in team.agents)

    team.events.handler.add_callback(Look())
    team.train()
    for agent in begun:
        averages = [agent[name] for name in agent if name.startswith("average/")]
        assert averages
        weights = [agent[f"weight/{index}"] for index in range(len(averages))]
        assert all((a == w).all() for a, w in zip(averages, weights, strict=True))
    assert saved(tmp_path) == [2, 3]
