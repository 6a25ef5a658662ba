"""Cores and memory of a CPU: pieces of work side by side, and freed memory that is kept.

A pass over a small model is many small steps. Shared out over all cores, each of them has to be
split, waited for, and begun with what lies in the other core's cache; pieces side by side meet
only at their ends.
"""

from __future__ import annotations

import ctypes
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


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's numbers for two of its settings (malloc.h, mallopt(3))."""
MOST_KEPT = 2**31 - 1
"""Bytes that may lie unused at the end of the heap; mallopt takes an int."""
LARGEST_KEPT = 2**25
"""Bytes of the largest tensors that come from the heap, as many as glibc goes up to by itself.

Larger ones go back when freed: they would leave holes that nothing fits into."""
SETTINGS_OF_THE_USER = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)


def keep_freed_memory() -> bool:
    """Keep what tensors on the CPU free for those to come, where glibc's malloc does the work.

    Every pass makes and frees the same hundreds of megabytes. glibc hands such amounts back to the
    system, which has to clear the pages before it gives them out again: a tenth of an iteration of
    a small model, on a virtual machine. The most memory that a process ever has stays the same, but
    for holes in the heap.

    Returns:
        whether it is so from now on; not with another C library, nor where the environment
        configures malloc already.
    """
    if any(name in os.environ for name in SETTINGS_OF_THE_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, MOST_KEPT) and mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT))
