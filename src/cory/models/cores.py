"""Cores of a CPU: work on several pieces side by side, each on cores of its own.

A pass over a small model is many small steps. Shared out over all cores, each of them has to be
split, waited for, and begun with what lies in the other core's cache; pieces side by side meet
only at their ends.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
    """Do the work on each piece, as many at once as there are cores for.

    Cores are those that torch may use (`torch.set_num_threads`, `OMP_NUM_THREADS`); where there are
    fewer pieces, each has several. The work must bear to be done in several threads at once.

    Yields:
        results in the order of the pieces. An error ends the work: pieces that nobody has begun
        are left.
    """
    num_cores = torch.get_num_threads()
    num_workers = min(num_cores, len(pieces))
    if num_workers < 2:
        yield from map(work, pieces)
        return

    def on_own_cores(piece: Piece) -> Result:
        torch.set_num_threads(num_cores // num_workers)
        return work(piece)

    workers = _workers(num_workers)
    tasks = deque(workers.submit(on_own_cores, piece) for piece in pieces)
    try:
        while tasks:
            # Taken out, so that a result which has been used is held no longer.
            yield tasks.popleft().result()
    finally:
        for task in tasks:
            task.cancel()
        wait(tasks)
        # Threads that somebody else starts begin with the number set last, by any thread.
        torch.set_num_threads(num_cores)


@cache
def _workers(number: int) -> ThreadPoolExecutor:
    """Threads that stay, and with them the memory that they have at hand."""
    return ThreadPoolExecutor(number, "cory")


if hasattr(os, "register_at_fork"):
    # A forked process has none of its parent's threads.
    os.register_at_fork(after_in_child=_workers.cache_clear)
