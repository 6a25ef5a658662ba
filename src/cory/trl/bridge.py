"""Tells transformers' callbacks what cory's trainer does, as transformers' `Trainer` would.

They get the TRL configuration, a state that counts optimizer steps and epochs, and metrics under
TRL's names. What they ask for through their `TrainerControl` is done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from transformers import DefaultFlowCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler

from cory.trl.measures import averages, classic_measures, evaluation_measures, measures


class _CorysFlow(DefaultFlowCallback):
    """Stands where transformers' handler wants its own: cory decides what is due."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> TrainerControl:
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> TrainerControl:
        return control


class Bridge(TrainerCallback):
    """A callback of cory's trainer that has transformers' callbacks behind it.

    Args:
        trainer: of `cory.trl`; `trainer.log` is called with what is logged.
        callbacks: or their classes.
    """

    def __init__(self, trainer: Any, callbacks: Sequence[Any]) -> None:
        self.trainer = trainer
        self.callbacks = [_CorysFlow(), *callbacks]
        self.since_logged: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.has_epoch = False

    def connect(self, core: Any) -> None:
        """Begin, once cory's trainer is built."""
        trainer = self.trainer
        self.core = core
        self.state = TrainerState(
            max_steps=core.args.max_steps * trainer.sizes.optimizer_steps,
            num_train_epochs=math.ceil(core.args.max_steps / trainer.steps_per_epoch),
            is_local_process_zero=trainer.accelerator.is_local_main_process,
            is_world_process_zero=core.world.is_main,
            train_batch_size=trainer.args.per_device_train_batch_size,
        )
        self.handler = CallbackHandler(
            self.callbacks, trainer.model, core.tokenizer, core.optimizer, core.scheduler
        )
        core.optimizer.register_step_pre_hook(lambda *_: self._optimizer("on_pre_optimizer_step"))
        core.optimizer.register_step_post_hook(lambda *_: self._optimizer("on_optimizer_step"))
        self.tell("on_init_end", core.events.control)

    def tell(self, event: str, control: TrainerControl, **details: Any) -> None:
        """Call the method of this name of every callback."""
        getattr(self.handler, event)(self.trainer.args, self.state, control, **details)

    def _optimizer(self, event: str) -> None:
        self.tell(event, self.core.events.control)

    def _follow(self, step: int) -> None:
        """Set the state to where cory's trainer is, after `step` iterations."""
        self.state.global_step = step * self.trainer.sizes.optimizer_steps
        self.state.epoch = step / self.trainer.steps_per_epoch
        heard = self.trainer.heard
        self.state.num_input_tokens_seen = heard.num_tokens

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self.trainer
        self.state.logging_steps = trainer.args.logging_steps
        self.state.eval_steps = trainer.args.eval_steps
        self.state.save_steps = trainer.args.save_steps
        self.started, self.first_step = time.time(), state.global_step
        self._follow(state.global_step)
        self.tell("on_train_begin", control)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._follow(state.global_step)
        if not self.has_epoch:
            self.has_epoch = True
            self.tell("on_epoch_begin", control)
        self.tell("on_step_begin", control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._follow(state.global_step)
        due = control.should_log
        control.should_log = False
        self.tell("on_step_end", control)
        if control.should_epoch_stop or self._ends_epoch(state.global_step):
            self.has_epoch = False
            self.tell("on_epoch_end", control)
        self.is_asked_to_log = control.should_log
        control.should_log = due

    def _ends_epoch(self, step: int) -> bool:
        return step % self.trainer.steps_per_epoch == 0 or step == self.core.args.max_steps

    def on_log(
        self, args: Any, state: Any, control: Any, *, logs: dict[str, float], **_: Any
    ) -> None:
        if any(key.startswith("eval/") for key in logs):
            return
        trainer, core = self.trainer, self.core
        own = measures(trainer.heard, logs, core.args)
        if trainer.is_classic:
            own |= classic_measures(logs, own, core.args)
        self.since_logged.append(own)
        self.losses.append(own["loss"])
        if self.is_asked_to_log or self._is_due(state.global_step):
            rate = core.scheduler.get_last_lr()[0]
            found = {**averages(self.since_logged), "learning_rate": float(rate)}
            self.since_logged.clear()
            # Where nothing was learnt there is no loss.
            trainer.log({key: value for key, value in found.items() if not math.isnan(value)})

    def _is_due(self, step: int) -> bool:
        args = self.trainer.args
        strategy = str(getattr(args.logging_strategy, "value", args.logging_strategy))
        if strategy == "epoch":
            return self._ends_epoch(step)
        is_first = args.logging_first_step and step == 1
        return strategy == "steps" and (is_first or step % self.trainer.logging_period == 0)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, *, metrics: dict[str, float], **_: Any
    ) -> None:
        plain = {key.removeprefix("eval_"): value for key, value in metrics.items()}
        self.evaluated(plain, control, "eval")

    def evaluated(self, metrics: dict[str, float], control: Any, prefix: str) -> dict[str, float]:
        """Log an evaluation, and tell of it; returns its metrics under TRL's names."""
        found = evaluation_measures(metrics, self.core.args.max_completion_length)
        named = {f"{prefix}_{key}": value for key, value in found.items()}
        if self.state.epoch is not None:
            named["epoch"] = self.state.epoch
        # A set of held-out queries is answered at once.
        self.tell("on_prediction_step", control)
        self.trainer.log(dict(named))
        self._note_best(named, prefix)
        self.tell("on_evaluate", control, metrics=named)
        return named

    def _note_best(self, metrics: dict[str, float], prefix: str) -> None:
        watched = self.trainer.args.metric_for_best_model
        if watched is None:
            return
        key = watched if watched.startswith(f"{prefix}_") else f"{prefix}_{watched}"
        if key not in metrics:
            raise ValueError(
                f"metric_for_best_model={watched!r} is not measured: choose one of "
                f"{', '.join(sorted(metrics))}"
            )
        value, best = metrics[key], self.state.best_metric
        larger = self.trainer.args.greater_is_better
        if best is None or (value > best if larger else value < best):
            self.state.best_metric, self.state.best_global_step = value, self.state.global_step

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tell("on_save", control)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._follow(state.global_step)
        seconds, done = time.time() - self.started, state.global_step - self.first_step
        known = [loss for loss in self.losses if not math.isnan(loss)]
        self.summary = {
            "train_runtime": round(seconds, 4),
            "train_samples_per_second": round(done * self.trainer.sizes.batch_size / seconds, 3),
            "train_steps_per_second": round(done * self.trainer.sizes.optimizer_steps / seconds, 3),
            "total_flos": 0.0,
            "train_loss": sum(known) / len(known) if known else 0.0,
        }
        # What was measured since the last entry comes with the last one, as in TRL.
        pending = averages(self.since_logged)
        self.since_logged.clear()
        known_ones = {key: value for key, value in pending.items() if not math.isnan(value)}
        self.trainer.log({**known_ones, **self.summary})
        self.tell("on_train_end", control)
