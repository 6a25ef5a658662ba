"""Keeps what a reward function changes to itself: copies of its inputs, and global state."""

from __future__ import annotations

import copy
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cory.io.signals import NUMBERS

ATOMS = (str, int, float, bool, bytes, type(None))


def copied(value: Any) -> Any:
    """A value that shares nothing that can be changed with the original.

    What cannot be copied, such as an open file, is shared.
    """
    if isinstance(value, ATOMS):
        return value
    if type(value) is list:
        return [copied(part) for part in value]
    if type(value) is dict:
        return {key: copied(part) for key, part in value.items()}
    try:
        return copy.deepcopy(value)
    except (TypeError, RuntimeError, copy.Error):
        return value


def _set_default_device(device: torch.device) -> None:
    # None takes the mode away that a default device needs; the CPU is the default without it.
    torch.set_default_device(None if device.type == "cpu" else device)


def _set_grad_mode(mode: bool) -> None:
    torch.set_grad_enabled(mode)


def _set_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


STATE: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (torch.is_grad_enabled, _set_grad_mode),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    *(
        (partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device))
        for device in ("cpu", "cuda")
    ),
    (lambda: (sys.stdout, sys.stderr), _set_streams),
]
"""Global state that training depends on: how it is read, and how it is put back.

Random generators are not here: a function that draws from them gets new numbers in each call.
"""


@contextmanager
def state_put_back() -> Iterator[None]:
    """Put back the global state that the code inside changes.

    That is `STATE`, the working directory, and, in the main thread, the handlers of signals.
    """
    with ExitStack() as stack:
        stack.callback(os.chdir, Path.cwd())
        for read, write in STATE:
            stack.callback(_put_back, read, write, read())
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                read = partial(signal.getsignal, number)
                stack.callback(_put_back, read, partial(signal.signal, number), read())
        yield


def _put_back(read: Callable[[], Any], write: Callable[[Any], Any], before: Any) -> None:
    if read() != before:
        write(before)
