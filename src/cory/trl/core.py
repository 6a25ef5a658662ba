"""cory's trainer as `cory.trl` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cory.training.records import refuse_a_run_in
from cory.training.trainer import CORYTrainer


class Core(CORYTrainer):
    """A `CORYTrainer` that evaluates before the first iteration only where that is asked for."""

    evaluates_on_start = False

    def evaluate(self, step: int | None = None) -> dict[str, float]:
        if step == 0 and not self.evaluates_on_start:
            return {}
        return super().evaluate(step)


def holds_a_run(directory: Any) -> bool:
    """Whether there is a run that could be resumed, or would be written over."""
    try:
        refuse_a_run_in(Path(directory))
    except ValueError:
        return True
    return False


def check_resume(given: Any, core: CORYTrainer) -> None:
    """Check that what `train()` is asked to resume is what cory's trainer would go on with.

    Raises:
        ValueError: there is no run, there is one that would be written over, or another checkpoint
            than the newest is asked for.
    """
    directory, newest = core.records.directory, core.checkpoints.newest_for_all()
    if given in (None, False):
        if core.args.resume:
            raise ValueError(
                f"output_dir={str(directory)!r} holds a run already: go on with "
                "train(resume_from_checkpoint=True), or choose another output_dir"
            )
        return
    if newest is None:
        raise ValueError(f"resume_from_checkpoint={given!r}: {directory} has no checkpoint")
    if given is True:
        return
    wanted = Path(given).resolve()
    is_newest = wanted in (newest.resolve(), directory.resolve())
    if not is_newest and wanted.name.rpartition("-")[2] != newest.name.rpartition("-")[2]:
        raise ValueError(
            f"resume_from_checkpoint={str(given)!r}: cory goes on with the newest checkpoint of "
            f"output_dir, which is {newest}: pass True, or remove the later ones"
        )
