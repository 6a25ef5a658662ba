"""Training loop: sample queries, roll out, update each agent, log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import (
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)

from cory.algorithm.seeding import seed_global_generators
from cory.config import CORYConfig
from cory.generation.vllm.answers import ServerError
from cory.io.signals import Interruption
from cory.io.terminal import say
from cory.team.agent import Agent
from cory.team.averaging import interpolate_to_mean
from cory.team.evaluation import Evaluation, metrics_of_all
from cory.team.roles import exchange_is_due
from cory.training.callbacks import Events
from cory.training.checkpoint import Checkpoints, load_checkpoint
from cory.training.console import Console
from cory.training.data import held_out_queries, queries_at
from cory.training.launch import first_alone_in, make_accelerator, make_world, reason_to_stop
from cory.training.records import COMMAND, Records, collapse, flat_settings, watch
from cory.training.samples import write_samples
from cory.training.setup import UserObjects, build_components, make_optimizer, make_scheduler


class CORYTrainer:
    """Trains a team of agents that start as one language model.

    The arguments are those of TRL's GRPOTrainer, and so is the convention of reward functions:
    `f(prompts, completions, **columns) -> list[float | None]`.

    Args:
        model: Hub name, local directory, model, or model with an adapter; None: `args` names it.
        reward_funcs: a function, the name of a sequence-classification model, or a list of these;
            None: the task's own.
        args: settings.
        train_dataset: rows with the column `args.prompt_column`; None: the task's own.
        eval_dataset: held-out rows with the same columns.
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
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
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
        self.args = args
        self.accelerator = make_accelerator(args)
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
        self.rollout = self.components.rollout
        self.queries = partial(queries_at, self.components.train_dataset, args)
        self.checkpoints = Checkpoints(Path(args.output_dir), args.save_total_limit, self.world)
        self.alone: dict[str, Evaluation] = {}
        """The last evaluation of each agent."""
        self.console = Console(is_quiet=not self.world.is_main)
        self.events = Events(self, [self.console, *(callbacks or ())])

    def train(self) -> dict[str, float]:
        """Run the iterations that are left and save the last checkpoint.

        Returns:
            the last evaluation, or the last iteration's metrics if there is nothing held out.

        Raises:
            Stopped: a signal asked for an end; the iteration was finished and saved.
            CoryRuntimeError: it could not go on, as docs/how-to/faults.md explains.
            ValueError: a reward function failed, or another process trains in `output_dir`.
        """
        promise = "will save after this iteration and stop"
        with (
            first_alone_in(self.records.directory, COMMAND, self.world),
            Interruption(promise) as interruption,
            closing(self.console),
            self._kept_if_the_server_is_lost(),
        ):
            metrics: dict[str, float] = {}
            for step in range(self._start(), self.args.max_steps):
                self.events.tell("on_step_begin")
                metrics = self.iterate(step)
                self._tell(watch(self.agents, step + 1, metrics, self.args))
                self.events.step_ends(step + 1)
                if self.events.control.should_log:
                    self._log(step + 1, metrics)
                if self.events.control.should_evaluate:
                    metrics = self.evaluate(step + 1) or metrics
                if self.events.control.should_save:
                    self.save(step + 1)
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
                for agent in self.agents:
                    agent.reset_state()
            if self.args.merge_on_exchange:
                interpolate_to_mean(self.policies, self.args.merge_on_exchange)
        started = time.perf_counter()
        iteration = self.rollout.run(self.queries(step), step)
        answered = time.perf_counter()
        records = iteration.records
        team = [self.agents[record.generation.agent].scale_rewards(record) for record in records]
        updates = {
            record.generation.agent: self.agents[record.generation.agent].update(record, step, team)
            for record in team
        }
        self.scheduler.step()
        seconds = {"rollout": answered - started, "update": time.perf_counter() - answered}
        period = self.args.log_samples_steps
        if period is not None and (step + 1) % period == 0:
            write_samples(self.components, iteration)
        return self.records.iteration_metrics(
            iteration, updates, self.components.encoder.end_ids, seconds
        )

    def _stop_if_asked(self, step: int, interruption: Interruption) -> None:
        """End here, saved, where a signal asks for it or an agent has collapsed."""
        reason = reason_to_stop(interruption, self.world) or collapse(self.agents, step, self.args)
        if reason is not None:
            path = self.save(step)
            if self.args.report_to:
                self.accelerator.end_training()
            self._tell([f"cory: saved {path}; --resume goes on there"])
            raise reason

    def _tell(self, lines: Iterable[str]) -> None:
        for line in lines if self.world.is_main else ():
            say(line)

    def evaluate(self, step: int | None = None) -> dict[str, float]:
        """Each agent alone on held-out queries; {} if there are none.

        Returns:
            metrics by `agent_0/task_reward` and the like, and their means over agents by
            `task_reward`.
        """
        dataset = self.components.eval_dataset
        if dataset is None:
            return {}
        queries = held_out_queries(dataset, self.args.num_eval_queries)
        policies = {agent.name: agent.policy for agent in self.agents}
        with ExitStack() as stack:
            for agent in self.agents:
                stack.enter_context(agent.as_result())
            self.alone = self.components.evaluator.evaluate_each(policies, queries)
        metrics = metrics_of_all(self.alone, list(policies))
        if step is not None:
            self._log(step, {f"eval/{key}": value for key, value in metrics.items()})
            self.events.evaluated(metrics)
        return metrics

    def save(self, step: int) -> Path:
        """Write a checkpoint of this step; one that is there already is left alone."""
        path = self.checkpoints.path(step)
        if not self.world.broadcast_from_main(path.exists()):
            progress = {
                "records": self.records.totals(),
                "events": self.events.state_dict(),
                "transfer": self.rollout.transfer.state_dict(),
            }
            self.records.flush()
            self.checkpoints.save(step, self.agents, self.optimizer, self.tokenizer, progress)
            self.events.tell("on_save")
        return path

    @contextmanager
    def _kept_if_the_server_is_lost(self) -> Iterator[None]:
        """Save what was finished before the server that draws the answers went away or wrong."""
        try:
            yield
        except ServerError:
            step = self.events.state.global_step
            # Agents that were pulled together before they spoke would be so once more on resume,
            # and those that have learnt from an iteration would learn from it twice.
            period = self.args.role_exchange_period if self.args.merge_on_exchange else None
            is_between = self.scheduler.last_epoch == step and not exchange_is_due(step, period)
            # The other processes have stopped by now, and a checkpoint is made by all.
            if step and is_between and self.world.size == 1:
                self.save(step)
            raise

    def _start(self) -> int:
        newest = None
        with self.world.fail_together():
            if self.args.resume and self.world.is_main:
                newest = self.checkpoints.newest_sound()
        newest = self.world.broadcast_from_main(str(newest) if newest else None)
        first_step = 0
        if newest is not None:
            progress = load_checkpoint(Path(newest), self.agents, self.optimizer, self.scheduler)
            self.events.load_state_dict(progress["events"])
            if "transfer" in progress:
                self.rollout.transfer.load_state_dict(progress["transfer"])
            first_step = self.events.state.global_step
            with self.world.fail_together():
                if self.world.is_main:
                    self.checkpoints.set_aside_after(first_step)
                self.records.resume(first_step, progress["records"])
        else:
            with self.world.fail_together():
                self.records.begin()
        if self.args.report_to:
            self.accelerator.init_trackers(self.args.run_name or "cory", flat_settings(self.args))
        self.events.tell("on_train_begin")
        if first_step == 0 and self.args.eval_steps is not None:
            self.evaluate(0)
        return first_step

    def _finish(self, metrics: dict[str, float]) -> dict[str, float]:
        step = self.events.state.global_step
        if self.events.last_evaluated != step:
            metrics = self.evaluate(step) or metrics
        self.save(step)
        self.events.tell("on_train_end")
        if self.args.report_to:
            self.accelerator.end_training()
        # Nothing was left to do for a finished run that is resumed.
        return metrics or self.evaluate()

    def _log(self, step: int, metrics: dict[str, float]) -> None:
        with self.world.fail_together():
            self.records.write(step, metrics)
        if self.args.report_to:
            self.accelerator.log(metrics, step=step)
        self.events.logged(step, metrics)


class PPOTrainer(CORYTrainer):
    """Single-agent PPO: the same trainer, with the same arguments, and a team of one."""

    team_size = 1
