"""What the trainers of `cory.trl` have in common: the surface of transformers' `Trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from transformers.trainer_pt_utils import log_metrics, metrics_format, save_metrics, save_state

from cory.config import CORYConfig
from cory.config.validation import refuse_problems
from cory.io.terminal import say
from cory.models.weights import Adapter
from cory.training.given import given_rows
from cory.trl.bridge import Bridge
from cory.trl.core import Core, check_resume, holds_a_run
from cory.trl.data import num_rows
from cory.trl.hub import agent_card, push, save_agents
from cory.trl.measures import Hearing
from cory.trl.models import GivenModel, given_model
from cory.trl.output import TrainOutput
from cory.trl.overrides import refused_overrides
from cory.trl.sizes import period
from cory.trl.translate import translate


class Parts:
    """The objects of a trainer, as cory's trainer takes them."""

    def __init__(self, model: Any = None, **others: Any) -> None:
        self.model = model
        self.others = others
        """Of `CORYTrainer`, by keyword."""


class TeamTrainer:
    """A trainer with TRL's surface around a `CORYTrainer`, which is its `core`."""

    config_class: ClassVar[type]
    method: ClassVar[str]
    is_classic: ClassVar[bool] = False

    metrics_format = staticmethod(metrics_format)
    log_metrics = log_metrics
    save_metrics = save_metrics
    save_state = save_state
    is_fsdp_enabled = False
    is_deepspeed_enabled = False

    def _set_up(
        self,
        args: Any,
        parts: Parts,
        callbacks: Sequence[Any] | None,
        problems: list[str],
        train_dataset: Any,
    ) -> None:
        """Translate the arguments and build cory's trainer.

        `train_dataset` is the user's own, of which the rows can be counted.

        Raises:
            SettingsError: with all problems of the call.
        """
        problems += refused_overrides(type(self), type(self)._own_class())
        given = self._given(parts, args, problems)
        self.args, self.train_dataset = args, train_dataset
        self.eval_dataset = parts.others.pop("eval_dataset", None)
        translation = translate(args, num_rows(train_dataset), problems)
        self.sizes = translation.sizes
        settings = self._completed(translation.settings, given)
        self.steps_per_epoch = translation.steps_per_epoch or settings.max_steps
        self.logging_period = period(args.logging_steps, self.sizes, settings.max_steps)
        is_due = settings.eval_steps is not None
        trackers = [one for one in args.report_to if one is not None]
        reporting = get_reporting_integration_callbacks(trackers)
        self.bridge = Bridge(self, [*reporting, *(callbacks or ())])
        self.core = Core(
            given.model,
            args=settings,
            eval_dataset=self.eval_dataset if is_due else None,
            quantization_config=given.quantization_config,
            callbacks=[self.bridge],
            **parts.others,
        )
        self.core.evaluates_on_start = args.eval_on_start
        self._connect()
        self._say([*given.notes, *translation.notes])

    @classmethod
    def _own_class(cls) -> type:
        """The class of cory that a subclass of the user's has made its own."""
        return next(one for one in cls.__mro__ if one.__module__.startswith("cory.trl."))

    def _given(self, parts: Parts, args: Any, problems: list[str]) -> GivenModel:
        model, config = parts.model, parts.others.get("peft_config")
        self.has_adapters = config is not None or isinstance(model, PeftModel)
        quantization = parts.others.pop("quantization_config", None)
        try:
            return given_model(model, args, self.has_adapters, quantization)
        except ValueError as error:
            problems.append(str(error))
            return GivenModel(model)

    def _completed(self, settings: CORYConfig, given: GivenModel) -> CORYConfig:
        """The settings that depend on the objects."""
        changes: dict[str, Any] = dict(given.settings)
        if isinstance(given.model, str):
            changes["model_name_or_path"] = given.model
        if holds_a_run(settings.output_dir):
            changes["resume"] = True
        if self.eval_dataset is not None and getattr(self.args, "num_eval_queries", None) is None:
            changes["num_eval_queries"] = _largest(self.eval_dataset, settings)
        return settings.replace(**changes)

    def _connect(self) -> None:
        core = self.core
        self.heard = Hearing(core.rollout)
        core.rollout = self.heard  # pyright: ignore[reportAttributeAccessIssue]
        self.accelerator, self.optimizer = core.accelerator, core.optimizer
        self.lr_scheduler, self.processing_class = core.scheduler, core.tokenizer
        self.tokenizer = core.tokenizer
        self.hub_model_id = self.args.hub_model_id
        if self.args.disable_tqdm:
            core.console.console.quiet = True
        core.components.rewards.trainer_state = lambda: self.state
        self.bridge.connect(core)

    def _say(self, notes: Sequence[str]) -> None:
        for note in notes if self.core.world.is_main else ():
            say(f"cory: {note}")

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """The model of the first agent."""
        weights: Any = self.core.policies[0].weights
        return weights.peft_model if isinstance(weights, Adapter) else weights.model

    model_wrapped = model

    @property
    def ref_model(self) -> PreTrainedModel:
        """The frozen initial model; with adapters it is the base of `model`."""
        return self.core.components.reference.model

    @property
    def state(self) -> TrainerState:
        """Where the training is, in optimizer steps; `log_history` has TRL's metrics."""
        return self.bridge.state

    @property
    def control(self) -> Any:
        """What callbacks have asked for."""
        return self.core.events.control

    @property
    def callback_handler(self) -> Any:
        """The callbacks."""
        return self.bridge.handler

    def is_world_process_zero(self) -> bool:
        """Whether this process writes."""
        return self.core.world.is_main

    is_local_process_zero = is_world_process_zero

    def add_callback(self, callback: Any) -> None:
        """Add a callback of transformers, or its class."""
        self.bridge.handler.add_callback(callback)

    def pop_callback(self, callback: Any) -> Any:
        """Remove a callback and return it."""
        return self.bridge.handler.pop_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        """Remove a callback, or the first of a class."""
        self.bridge.handler.remove_callback(callback)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Append to `state.log_history`, and tell the callbacks."""
        entry = {**logs, "epoch": self.state.epoch} if self.state.epoch is not None else dict(logs)
        self.state.log_history.append({**entry, "step": self.state.global_step})
        self.bridge.tell("on_log", self.control, logs=entry)

    def train(self, resume_from_checkpoint: Any = None, **_: Any) -> TrainOutput:
        """Train; with `resume_from_checkpoint` (True, or its path) go on with the newest one.

        Raises:
            ValueError: `output_dir` holds a run and nothing is to be resumed, or the reverse.
        """
        check_resume(resume_from_checkpoint, self.core)
        found = self.core.train()
        metrics = {**self.bridge.summary, "epoch": self.state.epoch or 0.0}
        if self.args.push_to_hub:
            self.push_to_hub("End of training")
        return TrainOutput(self.state.global_step, metrics["train_loss"], {**found, **metrics})

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Each agent alone on held-out queries; the metrics are means over agents.

        Raises:
            ValueError: nothing is held out.
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        core = self.core
        if rows is None:
            raise ValueError("nothing is held out: pass eval_dataset, here or to the trainer")
        _, sets = given_rows(None, rows, core.args)
        before = core.components
        size = max(map(len, sets.values()))
        core.components = replace(before, eval_sets=sets)
        core.args, args = core.args.replace(num_eval_queries=size), core.args
        try:
            metrics = core.evaluate()
        finally:
            core.components, core.args = before, args
        return self.bridge.evaluated(metrics, self.control, metric_key_prefix)

    def end(self) -> None:
        """Leave the group of processes, as scripts do at their end."""
        self.core.world.close()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write agent 0 as plain transformers or peft loads it; a team's others beside it."""
        save_agents(self, Path(output_dir or self.core.args.output_dir))

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: list[str] | str | None = None,
        directory: str | None = None,
    ) -> None:
        """Write README.md, the card of the result, into a directory; None: `output_dir`."""
        if self.is_world_process_zero():
            target = Path(directory or self.core.args.output_dir)
            target.mkdir(parents=True, exist_ok=True)
            agent_card(self, model_name, dataset_name, tags).save(target / "README.md")

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        **card: Any,
    ) -> Any:
        """Upload the result with its card to `hub_model_id`."""
        known = {
            name: card[name] for name in ("model_name", "dataset_name", "tags") if name in card
        }
        where = {"token": token, "revision": revision}
        return push(self, commit_message or "End of training", where, known)


def check_arguments(trainer: type, args: Any, config: type, **unused: Any) -> list[str]:
    """Problems of arguments that cory's trainers do not take."""
    problems = []
    if not isinstance(args, config):
        problems.append(
            f"args is a {type(args).__module__}.{type(args).__name__}: import {config.__name__} "
            "from cory.trl"
        )
    words = {
        "tools": "answers call no tools",
        "rollout_func": "cory samples the answers itself",
        "environment_factory": "answers are single, without an environment",
        "optimizers": "cory makes its own AdamW and schedule: set learning_rate and the like",
        "data_collator": "cory batches queries itself",
    }
    for name, value in unused.items():
        if value not in (None, (None, None)):
            problems.append(f"{name} is not taken by {trainer.__name__}: {words[name]}")
    if not isinstance(args, config):
        refuse_problems(problems)
    return problems


def _largest(dataset: Any, settings: CORYConfig) -> int:
    """Rows of the largest of the held-out sets."""
    sets = dataset.values() if isinstance(dataset, dict) else [dataset]
    return max((num_rows(one, settings.dataset_test_split) or 1 for one in sets), default=1)


GivenTokenizer = PreTrainedTokenizerBase | None
GivenPeft = PeftConfig | None
