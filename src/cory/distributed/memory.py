"""Passes that take fewer sequences at a time once memory has run out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from cory.distributed.world import SINGLE, World
from cory.io.errors import CoryRuntimeError
from cory.io.terminal import say

T = TypeVar("T")
Piece = TypeVar("Piece", bound=Sized)


class MemoryLimitError(CoryRuntimeError):
    """Not even one sequence at a time fits into memory."""


class PassSize:
    """How many sequences one pass takes, at most; halved for good when memory runs out.

    What is computed must not depend on how it is cut into passes, beyond rounding, and must be
    computed anew from its start: nothing of a failed attempt may be used. Messages name `purpose`.
    """

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose
        self.limit: int | None = None
        self._largest = 0

    def at_most(self, rows: int | None) -> int | None:
        """The smaller of what is asked for and what fits; None: no limit."""
        return min(filter(None, (rows, self.limit)), default=None)

    def noted(self, pieces: Iterable[Piece]) -> list[Piece]:
        """The pieces of an attempt, one per pass; the largest is what may have been too large."""
        listed = list(pieces)
        self._largest = max([self._largest, *map(len, listed)])
        return listed

    def attempt(self, work: Callable[[], T], world: World = SINGLE) -> T:
        """Do the work, and again with at most half as many sequences a pass while memory runs out.

        The work asks `at_most` how to cut, and tells `noted`. All processes of a world do as many
        passes, so of several none can begin again alone.

        Raises:
            MemoryLimitError: one sequence at a time is too much, or there are several processes.
        """
        while True:
            self._largest = 0
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error, world)
            # Here the failed attempt's tensors, which the error's frames held, can be freed.
            clear_device_cache(garbage_collection=True)

    def _halve(self, error: Exception, world: World) -> None:
        reason = str(error).strip().splitlines()[-1][-200:] if str(error) else type(error).__name__
        if self._largest <= 1:
            raise MemoryLimitError(
                f"out of memory in {self.purpose}, with one sequence at a time: {reason}. Set "
                "gradient_checkpointing, bf16, use_peft or load_in_4bit, or a smaller "
                "max_completion_length"
            ) from error
        if world.size > 1:
            raise MemoryLimitError(
                f"out of memory in {self.purpose}, with {self._largest} sequences at a time, in "
                f"process {world.rank} of {world.size}, which cannot begin again alone: {reason}. "
                f"Set per_device_train_batch_size and per_device_eval_batch_size to "
                f"{self._largest // 2} or less"
            ) from error
        self.limit = self._largest // 2
        say(
            f"cory: out of memory in {self.purpose} with {self._largest} sequences at a time; "
            f"from now on {self.limit} (results change by rounding only): {reason}"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was what was missing, on any device."""
    is_named_so = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return is_named_so or should_reduce_batch_size(error)
