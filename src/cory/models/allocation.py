"""Memory of the process, between one use and the next."""

from __future__ import annotations

import ctypes
import os

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
