"""Finished work, saved when something else fails: a reward function, a callback, a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cory.algorithm.seeding import global_random_state, restore_global_random_state
from cory.io.files import OutputError
from cory.io.signals import Stopped
from cory.io.terminal import say


class Rescue:
    """Knows after which iteration training could go on, as long as no weight has been changed.

    Args:
        save: writes a checkpoint of a step with its `progress`, and returns where.
        is_alone: whether this is the only process. A checkpoint is made by all, and where one
            fails, the others may have ended.
    """

    def __init__(self, save: Callable[[int, dict[str, Any]], Path], is_alone: bool) -> None:
        self.save = save
        self.is_alone = is_alone
        self.finished: tuple[int, dict[str, Any], dict[str, Any]] | None = None

    def note(self, step: int, progress: dict[str, Any]) -> None:
        """From here on, `step` iterations are finished, and nothing of the next has begun."""
        if self.is_alone:
            self.finished = step, progress, global_random_state()

    def forget(self) -> None:
        """From here on, weights and statistics are changed: half an iteration is not saved."""
        self.finished = None

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Context in which an exception is preceded by a checkpoint of what was finished."""
        try:
            yield
        except (OutputError, Stopped):
            raise  # the disk would refuse the checkpoint, too; a second signal ends at once
        except BaseException:  # a callback may call sys.exit, too
            self._save()
            raise

    def _save(self) -> None:
        if self.finished is None or not self.finished[0]:
            return
        step, progress, random = self.finished
        restore_global_random_state(random)
        try:
            say(f"cory: saved {self.save(step, progress)}; --resume goes on there")
        except OutputError as error:
            say(f"cory: {error}")
