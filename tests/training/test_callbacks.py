"""Callbacks of transformers: told what happens, and obeyed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState

from cory import CORYConfig
from tests.tiny_runs import queries, records, trainer


class Listener(TrainerCallback):
    """Notes every event and what came with it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.details: dict[str, dict[str, Any]] = {}

    def _note(self, event: str, args: Any, state: Any, control: Any, details: dict) -> None:
        assert isinstance(args, CORYConfig)
        assert isinstance(state, TrainerState)
        assert isinstance(control, TrainerControl)
        assert isinstance(details["model"], nn.ModuleList)
        self.events.append((event, state.global_step))
        self.details[event] = details

    def on_train_begin(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        self._note("train_begin", args, state, control, details)

    def on_step_end(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        self._note("step_end", args, state, control, details)

    def on_log(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        self._note("log", args, state, control, details)

    def on_evaluate(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        self._note("evaluate", args, state, control, details)

    def on_save(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        self._note("save", args, state, control, details)

    def on_train_end(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        self._note("train_end", args, state, control, details)


def test_callbacks_hear_everything_once(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an event that is never told, told twice, or told without what it is about."""
    listener = Listener()
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        callbacks=[listener],
        eval_dataset=queries(2),
        max_steps=3,
        eval_steps=2,
        save_steps=2,
    )
    team.train()
    assert listener.events == [
        ("train_begin", 0),
        ("log", 0),
        ("evaluate", 0),
        ("step_end", 1),
        ("log", 1),
        ("step_end", 2),
        ("log", 2),
        ("save", 2),
        ("log", 2),
        ("evaluate", 2),
        ("step_end", 3),
        ("log", 3),
        ("save", 3),
        ("log", 3),
        ("evaluate", 3),
        ("train_end", 3),
    ]
    assert "eval/agent_0/task_reward" in listener.details["log"]["logs"]
    assert "eval_agent_0/task_reward" in listener.details["evaluate"]["metrics"]
    assert listener.details["train_begin"]["optimizer"] is team.optimizer
    assert listener.details["train_begin"]["lr_scheduler"] is team.scheduler
    assert listener.details["train_begin"]["processing_class"] is team.tokenizer
    assert team.events.state.max_steps == 3
    assert [line["step"] for line in team.events.state.log_history] == [0, 1, 2, 2, 3, 3]


class Ask(TrainerCallback):
    """Asks for something at one step, from one event."""

    def __init__(self, event: str, request: str, step: int) -> None:
        setattr(self, event, self.ask)
        self.request, self.step = request, step

    def ask(self, args: Any, state: Any, control: Any, **_: Any) -> TrainerControl:
        if state.global_step != self.step:
            return control
        # A callback may as well hand back a new object.
        return TrainerControl(**{**vars(control), self.request: True})


@pytest.mark.parametrize("event", ["on_step_end", "on_log"])
def test_requests_are_met(tiny_gpt2_dir: Path, tmp_path: Path, event: str) -> None:
    """Prevents a callback's request from being overwritten by the schedule, or kept for ever."""
    asks = [Ask(event, "should_save", 1), Ask(event, "should_evaluate", 2)]
    trainer(tiny_gpt2_dir, tmp_path, callbacks=asks, eval_dataset=queries(2), max_steps=4).train()
    saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["step-1", "step-4"]
    evaluated = [line["step"] for line in records(tmp_path) if "eval/task_reward" in line]
    assert evaluated == [2, 4]


def test_requests_made_before_a_step_are_met(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a request of `on_step_begin` from being lost by the end of the step."""
    ask = Ask("on_step_begin", "should_save", 1)
    trainer(tiny_gpt2_dir, tmp_path, callbacks=[ask], max_steps=3).train()
    saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["step-2", "step-3"]


@pytest.mark.parametrize("event", ["on_step_end", "on_log", "on_save"])
def test_a_request_to_stop_ends_training_properly(
    tiny_gpt2_dir: Path, tmp_path: Path, event: str
) -> None:
    """Prevents a stopped run without final evaluation or checkpoint."""
    result = trainer(
        tiny_gpt2_dir,
        tmp_path,
        callbacks=[Ask(event, "should_training_stop", 2)],
        eval_dataset=queries(2),
        max_steps=9,
        save_steps=2 if event == "on_save" else None,
    ).train()
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 2]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-2"]
    assert "agent_0/task_reward_ci95" in result


class Watched:
    """A reward that falls by one at each call: nothing that is learnt improves it."""

    def __init__(self) -> None:
        self.value = 0.0
        self.__name__ = "falling"

    def __call__(self, completions: list[str], **columns: Any) -> list[float]:
        self.value -= 1.0
        return [self.value] * len(completions)


@pytest.mark.parametrize(
    ("greater_is_better", "stops_at", "best_step"), [(True, 2, 0), (False, 4, 4)]
)
def test_early_stopping(
    tiny_gpt2_dir: Path, tmp_path: Path, greater_is_better: bool, stops_at: int, best_step: int
) -> None:
    """Prevents transformers' own callback from being accepted and then ignored."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        reward_funcs=Watched(),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
        eval_dataset=queries(2),
        max_steps=4,
        eval_steps=1,
        metric_for_best_model="agent_0/task_reward",
        greater_is_better=greater_is_better,
    )
    team.train()
    state = team.events.state
    assert state.global_step == stops_at
    assert state.best_global_step == best_step
    rewards = {
        line["step"]: line["eval/agent_0/task_reward"]
        for line in records(tmp_path)
        if "eval/task_reward" in line
    }
    assert state.best_metric == rewards[best_step]


def test_early_stopping_goes_on_counting(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a resumed run from starting its patience again."""

    def team(**options: Any) -> Any:
        return trainer(
            tiny_gpt2_dir,
            tmp_path,
            reward_funcs=Watched(),
            callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
            eval_dataset=queries(2),
            eval_steps=1,
            metric_for_best_model="task_reward",
            **options,
        )

    first = team(max_steps=2)
    first.train()
    second = team(max_steps=9, resume=True)
    second.train()
    assert second.events.state.global_step == 3
    assert second.events.state.best_metric == first.events.state.best_metric


def test_a_metric_that_is_not_measured(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents early stopping that never stops for a typing error."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        eval_dataset=queries(2),
        eval_steps=1,
        metric_for_best_model="task_rewards",
    )
    with pytest.raises(ValueError, match=r"'task_rewards' is not measured: .*task_reward"):
        team.train()
