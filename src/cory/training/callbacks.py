"""Events of training, told to `transformers.TrainerCallback`s, and what these ask for in return."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import DefaultFlowCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler, ExportableState

from cory.config import CORYConfig
from cory.io.terminal import say

REQUESTS = ("should_log", "should_evaluate", "should_save", "should_training_stop")
"""What a callback may ask for after an iteration."""
KEPT = ("global_step", "best_metric", "best_global_step")
"""The fields of `TrainerState` that a checkpoint holds."""
UNMET = ("should_evaluate", "should_training_stop")
"""The requests that a checkpoint holds: who resumes meets them, as the run would have."""
LINES_OF_HISTORY = 100
"""Of `TrainerState.log_history`, the newest; all are in metrics.jsonl."""


class Schedule(DefaultFlowCallback):
    """Asks for logging, evaluation and saving at the periods of the settings and at the end."""

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        step = state.global_step
        is_last = step == state.max_steps

        def is_due(period: int | None) -> bool:
            return is_last or (period is not None and step % period == 0)

        control.should_log |= is_due(args.logging_steps)
        control.should_evaluate |= is_due(args.eval_steps)
        control.should_save |= is_due(args.save_steps)
        return control


class Events:
    """Keeps `TrainerState` and `TrainerControl` and calls the callbacks of a `CORYTrainer`."""

    def __init__(self, trainer: Any, callbacks: Sequence[TrainerCallback]) -> None:
        self.args: CORYConfig = trainer.args
        self.world = trainer.world
        self.state = TrainerState(
            max_steps=self.args.max_steps,
            is_local_process_zero=trainer.accelerator.is_local_main_process,
            is_world_process_zero=trainer.world.is_main,
        )
        self.control = TrainerControl()
        self.last_evaluated: int | None = None
        self.last_metrics: dict[str, float] | None = None
        """What was measured then, in this process."""
        self.handler = CallbackHandler(
            [Schedule(), *callbacks],
            nn.ModuleList(trainer.policies),
            trainer.tokenizer,
            trainer.optimizer,
            trainer.scheduler,
        )

    def tell(self, event: str, **details: Any) -> None:
        """Call the method of this name, such as `on_save`, of every callback."""
        # The handler's own methods also take back requests that have been met.
        tell = getattr(self.handler, event)
        self.control = tell(self.args, self.state, self.control, **details)

    def begin(self) -> None:
        """Tell `on_train_begin`; requests of a run that is resumed stay as they were saved."""
        was_stopped = self.control.should_training_stop
        self.tell("on_train_begin")
        self.control.should_training_stop |= was_stopped

    def steps_left(self) -> range:
        """The iterations to do; none for a run that a callback had ended before it was resumed."""
        done = self.state.global_step
        if not (done and self.control.should_training_stop):
            return range(done, self.args.max_steps)
        if self.world.is_main:
            say(
                f"cory: a callback ended this training after iteration {done}; to train on, begin "
                "a new run whose model_name_or_path is an agent of its checkpoint"
            )
        return range(done, done)

    def step_ends(self) -> None:
        """Afterwards `control` says what is asked for after this iteration, in any process."""
        self.tell("on_step_end")
        asked = self.world.gather([getattr(self.control, request) for request in REQUESTS])
        for request, *everywhere in zip(REQUESTS, *asked, strict=True):
            setattr(self.control, request, any(everywhere))

    def logged(self, step: int, metrics: dict[str, float]) -> None:
        self.state.log_history.append({"step": step, **metrics})
        del self.state.log_history[:-LINES_OF_HISTORY]
        self.tell("on_log", logs=metrics)

    def evaluated(self, metrics: dict[str, float]) -> None:
        """Callbacks get the metrics under the prefix `eval_`, as transformers names them.

        Raises:
            ValueError: `metric_for_best_model` is not among them.
        """
        self.last_evaluated, self.last_metrics = self.state.global_step, metrics
        named = {f"eval_{key}": value for key, value in metrics.items()}
        watched = self.args.metric_for_best_model
        key = None if watched is None else f"eval_{watched.removeprefix('eval_')}"
        if key is not None and key not in named:
            raise ValueError(
                f"metric_for_best_model={watched!r} is not measured: choose one of "
                f"{', '.join(sorted(metrics))}"
            )
        self.tell("on_evaluate", metrics=named)
        if key is None or math.isnan(named[key]):  # no answer was paid
            return
        value, best = named[key], self.state.best_metric
        is_better = best is None or (value > best if self.args.greater_is_better else value < best)
        if is_better and not math.isnan(value):
            self.state.best_metric = value
            self.state.best_global_step = self.state.global_step

    def state_dict(self) -> dict[str, Any]:
        """JSON values that `load_state_dict` takes.

        Counters, the best metric, requests that are not met yet, and stateful callbacks.
        """
        return {
            **{name: getattr(self.state, name) for name in KEPT},
            "unmet": {name: getattr(self.control, name) for name in UNMET},
            "last_evaluated": self.last_evaluated,
            "callbacks": {
                type(callback).__name__: callback.state()["attributes"]
                for callback in self.handler.callbacks
                if isinstance(callback, ExportableState)
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in KEPT:
            setattr(self.state, name, state[name])
        for name, is_asked in state.get("unmet", {}).items():
            setattr(self.control, name, is_asked)
        self.last_evaluated = state["last_evaluated"]
        for callback in self.handler.callbacks:
            for name, value in state["callbacks"].get(type(callback).__name__, {}).items():
                setattr(callback, name, value)
