"""What a run goes on with after a stop: written into checkpoints, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cory.io.objects import finite, shown
from cory.models.loading import readable
from cory.training.checkpoint import Checkpoints, load_checkpoint


class RunState:
    """The weights, moments and counts of a `CORYTrainer` in the checkpoints of its directory."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        args = trainer.args
        self.checkpoints = Checkpoints(Path(args.output_dir), args.save_total_limit, trainer.world)

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
        return self.checkpoints.save(step, agents, optimizer, tokenizer, progress)

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
