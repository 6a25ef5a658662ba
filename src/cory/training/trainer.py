"""Training loop: sample queries, roll out, update each agent, log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_callback import TrainerCallback

from cory.algorithm.seeding import seed_global_generators
from cory.config import CORYConfig
from cory.io.signals import Interruption
from cory.io.terminal import say
from cory.team.agent import Agent
from cory.team.averaging import interpolate_to_mean
from cory.team.evaluation import Evaluation, means_over, metrics_of_sets
from cory.team.roles import exchange_is_due
from cory.training.alarms import collapse, watch
from cory.training.callbacks import Events
from cory.training.console import Console
from cory.training.data import held_out_queries, queries_at
from cory.training.given import EvalRows, GivenRows
from cory.training.initial import initial_answers
from cory.training.launch import first_alone_in, make_accelerator, make_world, reason_to_stop
from cory.training.optimizer import make_optimizer, make_scheduler, next_iteration
from cory.training.query_checks import trained_queries
from cory.training.records import COMMAND, Records
from cory.training.rescue import Rescue
from cory.training.samples import write_samples
from cory.training.setup import UserObjects, build_components, settled
from cory.training.standstill import Standstill
from cory.training.state import RunState
from cory.training.trackers import Trackers


class CORYTrainer:
    """Trains a team of agents that start as one language model.

    The arguments are those of TRL's GRPOTrainer, and so is the convention of reward functions:
    `f(prompts, completions, **columns) -> list[float | None]`.

    Args:
        model: Hub name, local directory, model, or model with an adapter; None: `args` names it.
        reward_funcs: a function, the name of a sequence-classification model, or a list of these;
            None: the task's own.
        args: settings.
        train_dataset: rows with the column `args.prompt_column`: a `Dataset`, `IterableDataset`
            (read in its own order), `DatasetDict`, DataFrame or list; None: the task's own.
        eval_dataset: held-out rows with the same columns, likewise, no `IterableDataset`; or a dict
            of several by name, of which the first counts as the run's own.
        processing_class: tokenizer; None: the model's.
        reward_processing_classes: tokenizers of reward models; None: their own.
        callbacks: of transformers, such as `EarlyStoppingCallback`.
        peft_config: an adapter per agent on one shared base; None: as `args.use_peft` says.
        quantization_config: of the shared base; None: as `args.load_in_4bit` says.

    Raises:
        ValueError: the parts do not fit together; the message names the value and the fix.
    """

    team_size: int | None = None
    """Agents, whatever the settings say; None: as they say."""

    def __init__(
        self,
        model: str | PreTrainedModel | PeftModel | None = None,
        reward_funcs: Any = None,
        args: CORYConfig | None = None,
        train_dataset: GivenRows | None = None,
        eval_dataset: EvalRows | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        reward_processing_classes: Any = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        peft_config: PeftConfig | None = None,
        quantization_config: BitsAndBytesConfig | None = None,
    ) -> None:
        args = args or CORYConfig()
        if self.team_size is not None:
            args = args.replace(num_agents=self.team_size)
        if isinstance(model, str):
            args, model = args.replace(model_name_or_path=model), None
        self.accelerator = make_accelerator(args)
        self.args = args = settled(args, self.accelerator.device)
        self.world = make_world(self.accelerator, args)
        self.records = Records(args, writes=self.world.is_main)
        seed_global_generators(args.seed)
        user = UserObjects(
            *(model, reward_funcs, reward_processing_classes, train_dataset, eval_dataset),
            *(processing_class, peft_config, quantization_config),
        )
        self.components = build_components(args, user, self.accelerator.device, self.world)
        self.records.keep(self.components.rewards.failures)
        self.policies, self.tokenizer = self.components.policies, self.components.tokenizer
        self.optimizer = make_optimizer(self.policies, args)
        self.scheduler = make_scheduler(self.optimizer, args)
        self.agents = [
            Agent(index, policy, self.components.scorer, self.optimizer, args)
            for index, policy in enumerate(self.policies)
        ]
        self.has_own_rows = train_dataset is not None
        self.rollout = self.components.rollout
        self.queries = partial(queries_at, self.components.train_dataset, args)
        self._build_records([*(callbacks or ())])

    def _build_records(self, callbacks: list[TrainerCallback]) -> None:
        """All that says, keeps or saves what happens."""
        self.run_state = RunState(self)
        self.checkpoints = self.run_state.checkpoints
        self.alone: dict[str, Evaluation] = {}
        """The last evaluation of each agent, on the first of the held-out sets."""
        self.trackers = Trackers(self.accelerator, self.args)
        self.console = Console(is_quiet=self.args.quiet or not self.world.is_main)
        self.standstill = Standstill(self.agents, self.args)
        self.events = Events(self, [self.console, *callbacks])
        self.rescue = Rescue(self.run_state.write, is_alone=self.world.size == 1)
        self.components.rewards.trainer_state = lambda: self.events.state

    def train(self) -> dict[str, float]:
        """Run the iterations that are left and save the last checkpoint.

        Returns:
            the last evaluation, or the last iteration's metrics if there is nothing held out; with
            means over agents by `task_reward` and the like.

        Raises:
            Stopped: a signal asked for an end; the iteration was finished and saved.
            CoryRuntimeError: it could not go on, as docs/how-to/faults.md explains.
            ValueError: a reward function failed, another process trains in `output_dir`, or this
                trainer has trained before.
        """
        promise = "will save after this iteration and stop"
        with (
            first_alone_in(self.records.directory, COMMAND, self.world),
            Interruption(promise) as interruption,
            closing(self.console),
            self.rescue.on_failure(),
        ):
            metrics = self._start()
            self._tell(self.standstill.before())
            parts = self.components
            self._tell(trained_queries(parts.train_dataset, parts.eval_sets, self.args))
            for step in self.events.steps_left():
                self.rescue.note(step, self.run_state.progress())
                self.events.tell("on_step_begin")
                metrics = self.iterate(step)
                self._tell(watch(self.agents, step + 1, metrics, self.args))
                self._tell(self.standstill.after(step + 1, metrics))
                self.events.state.global_step = step + 1
                metrics = self._end_step(metrics)
                self._stop_if_asked(step + 1, interruption)
                if self.events.control.should_training_stop:
                    break
            return self._finish(metrics)

    def iterate(self, step: int) -> dict[str, float]:
        """One iteration of Algorithm 1: the team answers, then each agent learns."""
        if exchange_is_due(step, self.args.role_exchange_period):
            # The exchange itself needs nothing to be done.
            self.rollout.transfer.review()
            if self.args.reset_on_exchange:
                self.rescue.forget()
                for agent in self.agents:
                    agent.reset_state()
            if self.args.merge_on_exchange:
                self.rescue.forget()
                interpolate_to_mean(self.policies, self.args.merge_on_exchange)
        started = time.perf_counter()
        iteration = self.rollout.run(self.queries(step), step)
        answered = time.perf_counter()
        period = self.args.log_samples_steps
        if period is not None and (step + 1) % period == 0:
            answers = write_samples(self.components, iteration)
            self.trackers.log_answers(step + 1, answers)
            self.console.show_answers(answers)
        self.rescue.forget()
        learning = time.perf_counter()
        records = iteration.records
        team = [self.agents[record.generation.agent].scale_rewards(record) for record in records]
        updates = {
            record.generation.agent: self.agents[record.generation.agent].update(record, step, team)
            for record in team
        }
        next_iteration(self.scheduler)
        seconds = {"rollout": answered - started, "update": time.perf_counter() - learning}
        return self.records.iteration_metrics(iteration, updates, seconds)

    def _end_step(self, metrics: dict[str, float]) -> dict[str, float]:
        """Do what is asked for after an iteration; what can fail comes after the checkpoint."""
        step = self.events.state.global_step
        self.rescue.note(step, {**self.run_state.progress(), "iteration": metrics})
        self.events.step_ends()
        if self.events.control.should_log:
            self._log(step, metrics)
        self.rescue.note(step, self.run_state.progress())
        if self.events.control.should_save:
            self.save(step)
        if self.events.control.should_evaluate:
            metrics = self.evaluate(step) or metrics
            if self.events.control.should_save:
                self.save(step)
        return metrics

    def _stop_if_asked(self, step: int, interruption: Interruption) -> None:
        """End here, saved, where a signal asks for it or an agent has collapsed."""
        reason = reason_to_stop(interruption, self.world) or collapse(self.agents, step, self.args)
        if reason is not None:
            path = self.save(step)
            self.trackers.finish()
            self._tell([f"cory: saved {path}; --resume goes on there"])
            raise reason

    def _tell(self, lines: Iterable[str]) -> None:
        for line in lines if self.world.is_main else ():
            say(line)

    def evaluate(self, step: int | None = None) -> dict[str, float]:
        """Each agent alone on held-out queries; {} if there are none.

        Returns:
            metrics by `agent_0/task_reward` and the like, and their means over agents by
            `task_reward`; those of set NAME of several also by `NAME/agent_0/task_reward`.
        """
        sets, evaluator = self.components.eval_sets, self.components.evaluator
        if not sets:
            return {}
        size = self.args.num_eval_queries
        known = initial_answers(self.args) if step == 0 else None
        policies = {agent.name: agent.policy for agent in self.agents}
        with ExitStack() as stack:
            for agent in self.agents:
                stack.enter_context(agent.as_result())
            found = {
                name: evaluator.evaluate_each(policies, held_out_queries(rows, size), known)
                for name, rows in sets.items()
            }
        self.alone = next(iter(found.values()))
        metrics = metrics_of_sets(found, list(policies))
        if step is not None:
            self._log(step, {f"eval/{key}": value for key, value in metrics.items()})
            self.events.evaluated(metrics)
            self.run_state.describe(step)
        return metrics

    def save(self, step: int) -> Path:
        """Write a checkpoint of this step; one that this run has written is left alone."""
        if not self.checkpoints.has(step):
            self.run_state.write(step, self.run_state.progress())
            self.events.tell("on_save")
        return self.checkpoints.path(step)

    def _start(self) -> dict[str, float]:
        """Begin or go on; returns the evaluation that was due, if there was one."""
        self.records.begin_once()
        newest = self.checkpoints.newest_for_all() if self.args.resume else None
        progress = {} if newest is None else self.run_state.load(newest)
        if newest is None:
            with self.world.fail_together():
                self.records.begin()
        self.run_state.prepare_push()
        self.trackers.start()
        self.events.begin()
        if newest is None:
            return self.evaluate(0) if self.args.eval_steps is not None else {}
        # What the run did, or had still to do, after what it had written down.
        self.events.tell("on_save")
        if "iteration" in progress:
            return self._end_step(progress["iteration"])
        if not self.events.control.should_evaluate:
            return {}
        return self.evaluate(self.events.state.global_step)

    def _finish(self, metrics: dict[str, float]) -> dict[str, float]:
        step = self.events.state.global_step
        self.save(step)
        if self.events.last_evaluated != step:
            metrics = self.evaluate(step) or metrics
        self.events.tell("on_train_end")
        self.trackers.finish()
        self._tell(self.run_state.push())
        # Nothing was left to do for a finished run that is resumed.
        metrics = metrics or self.evaluate() or self.records.newest()
        return means_over([agent.name for agent in self.agents], metrics) | metrics

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        with self.world.fail_together():
            self.records.write(step, metrics)
        self.trackers.log(step, metrics)
        self.events.logged(step, metrics)


class PPOTrainer(CORYTrainer):
    """Single-agent PPO: the same trainer, with the same arguments, and a team of one."""

    team_size = 1
