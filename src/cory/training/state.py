"""What a run goes on with after a stop: written into checkpoints, and read back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from cory.io.files import refuse_links, writing
from cory.io.objects import finite, shown
from cory.models.loading import readable
from cory.training.cards import card_facts, write_cards
from cory.training.checkpoint import Checkpoints, load_checkpoint
from cory.training.hub import make_repositories, repositories, upload_at_the_end


class RunState:
    """The weights, moments and counts of a `CORYTrainer` in the checkpoints of its directory."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        args = trainer.args
        self.checkpoints = Checkpoints(Path(args.output_dir), args.save_total_limit, trainer.world)

    def describe(self, step: int) -> None:
        """Write the model cards of this run's checkpoint of a step, if it is there.

        They have the results of an evaluation if that was at this step.
        """
        if not self.checkpoints.has(step):
            return
        trainer, path = self.trainer, self.checkpoints.path(step)
        metrics = trainer.events.last_metrics if trainer.events.last_evaluated == step else None
        with trainer.world.fail_together(), writing(path):
            if trainer.world.is_main:
                agents = [agent.name for agent in trainer.agents]
                write_cards(path, agents, trainer.args, card_facts(trainer), metrics)

    def progress(self) -> dict[str, Any]:
        """What a checkpoint holds besides the agents; JSON values."""
        return {
            "records": self.trainer.records.totals(),
            "events": self.trainer.events.state_dict(),
            "transfer": self.trainer.rollout.transfer.state_dict(),
            "is_chat": self.trainer.components.is_chat,
        }

    def write(self, step: int, progress: dict[str, Any]) -> Path:
        """Write a checkpoint; one that this run has written is left alone."""
        trainer = self.trainer
        if self.checkpoints.has(step):
            return self.checkpoints.path(step)
        with trainer.world.fail_together():
            trainer.records.flush()
        agents, optimizer, tokenizer = trainer.agents, trainer.optimizer, trainer.tokenizer
        path = self.checkpoints.save(step, agents, optimizer, tokenizer, progress)
        self.describe(step)
        with trainer.world.fail_together():
            if trainer.world.is_main:
                self._leave_trainer_state(step)
        return path

    def _leave_trainer_state(self, step: int) -> None:
        """Write `checkpoint-N/trainer_state.json`, which `get_last_checkpoint` and others look for.

        Those whose checkpoint is gone are removed.
        """
        run, there = self.checkpoints.directory.parent, self.checkpoints.steps()
        folder = run / f"checkpoint-{step}"
        # The history stands in metrics.jsonl, whole and without what an interrupted run lost.
        state = replace(self.trainer.events.state, global_step=step, log_history=[])
        with writing(folder):
            refuse_links(run, folder.name)
            folder.mkdir(exist_ok=True)
            state.save_to_json(str(folder / "trainer_state.json"))
        for path in run.glob("checkpoint-*"):
            if path.name not in {f"checkpoint-{step}" for step in there}:
                shutil.rmtree(path, ignore_errors=True)

    def prepare_push(self) -> None:
        """Make the repositories that `push_to_hub` will need.

        Raises:
            ValueError: nobody is logged in.
            CoryRuntimeError: the Hub refused, or is out of reach.
        """
        args, world = self.trainer.args, self.trainer.world
        if args.push_to_hub:
            names = [*repositories(args).values()]
            with world.fail_together():
                if world.is_main:
                    make_repositories(names, args.hub_private_repo)

    def push(self) -> list[str]:
        """Upload the agents of the last checkpoint if `push_to_hub` is set; returns what to say.

        Raises:
            CoryRuntimeError: the Hub did not take them.
        """
        trainer, addresses = self.trainer, []
        if trainer.args.push_to_hub:
            path = self.checkpoints.path(trainer.events.state.global_step)
            with trainer.world.fail_together():
                if trainer.world.is_main:
                    addresses = upload_at_the_end(trainer.args, path)
        return [f"cory: uploaded {address}" for address in addresses]

    def load(self, path: Path) -> dict[str, Any]:
        """Go on from a checkpoint; returns its progress. Newer ones are set aside.

        Raises:
            ValueError: it does not fit the models or settings.
        """
        trainer = self.trainer
        with readable(f"{path} cannot be resumed"):
            progress = load_checkpoint(path, trainer.agents, trainer.optimizer, trainer.scheduler)
            trainer.events.load_state_dict(progress["events"])
            if "transfer" in progress:
                trainer.rollout.transfer.load_state_dict(progress["transfer"])
            step = trainer.events.state.global_step
            if path != self.checkpoints.path(step):
                raise ValueError(f"its state.json says global_step={shown(step)}")
            for name in ("samples", "tokens", "seconds"):
                if finite(progress["records"][name], f"its {name}") is None:
                    raise ValueError(f"its {name} are no number")
        with trainer.world.fail_together():
            if trainer.world.is_main:
                self.checkpoints.set_aside_after(step)
            self.checkpoints.own.add(step)
            trainer.records.resume(step, progress["records"])
        return progress
