"""Keeps what a reward function changes to itself: copies of its inputs, and global state."""

from __future__ import annotations

import copy
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
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


def _set_streams(streams: list[tuple[Any, bool]]) -> None:
    sys.stdout, sys.stderr = (
        # One that was closed is lost: the run goes on without its messages.
        stream if was_closed == _is_closed(stream) else Path(os.devnull).open("w")  # noqa: SIM115
        for stream, was_closed in streams
    )


def _is_closed(stream: Any) -> bool:
    return getattr(stream, "closed", False)


def _set_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()
    warnings.filters[:] = filters  # pyright: ignore[reportIndexIssue]


def _timer_end() -> float:
    """When the timer that sends SIGALRM ends; 0 where none runs."""
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    return left and time.monotonic() + left


def _set_timer(end: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, end and max(end - time.monotonic(), 1e-3))


STATE: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (torch.is_grad_enabled, _set_grad_mode),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda modes: torch.use_deterministic_algorithms(modes[0], warn_only=modes[1]),
    ),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    *(
        (partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device))
        for device in ("cpu", "cuda")
    ),
    *(
        (
            getattr(torch.backends.cuda, f"{kind}_enabled"),
            getattr(torch.backends.cuda, f"enable_{kind}"),
        )
        for kind in ("flash_sdp", "math_sdp", "mem_efficient_sdp")
    ),
    (
        lambda: [(stream, _is_closed(stream)) for stream in (sys.stdout, sys.stderr)],
        _set_streams,
    ),
    (lambda: sys.excepthook, lambda hook: setattr(sys, "excepthook", hook)),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (lambda: warnings.filters[:], _set_filters),
    (np.geterr, lambda modes: np.seterr(**modes)),
]
"""Global state that training depends on: how it is read, and how it is put back.

Random generators are not here: a function that draws from them gets new numbers in each call.
"""
OF_SIGNALS: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (partial(signal.getsignal, number), partial(signal.signal, number)) for number in NUMBERS
]
"""The same for what only the main thread may change. It is put back in the reverse order."""
if sys.platform != "win32":
    OF_SIGNALS += [
        (partial(signal.getsignal, signal.SIGALRM), partial(signal.signal, signal.SIGALRM)),
        (_timer_end, _set_timer),
        (
            partial(signal.pthread_sigmask, signal.SIG_BLOCK, ()),
            partial(signal.pthread_sigmask, signal.SIG_SETMASK),
        ),
    ]


@contextmanager
def state_put_back() -> Iterator[None]:
    """Put back the global state that the code inside changes.

    That is `STATE`, the working directory, and, in the main thread, `OF_SIGNALS`. In a process that
    the code has forked, which was meant for something else, nothing goes on.
    """
    is_main = threading.current_thread() is threading.main_thread()
    gradients, process = torch.is_grad_enabled(), os.getpid()
    with ExitStack() as stack:
        stack.callback(_end_if_forked, process)
        stack.callback(_go_back, _directory())
        # It also ends an inference mode that the code began, and it turns gradients on.
        stack.enter_context(torch.inference_mode(torch.is_inference_mode_enabled()))
        torch.set_grad_enabled(gradients)
        for read, write in [*STATE, *(OF_SIGNALS if is_main else ())]:
            stack.callback(_put_back, read, write, read())
        yield


def _end_if_forked(process: int) -> None:
    if os.getpid() != process:
        os._exit(0)


def _directory() -> Path | None:
    """The working directory; None where somebody has removed it."""
    with suppress(FileNotFoundError):
        return Path.cwd()
    return None


def _go_back(directory: Path | None) -> None:
    if directory is not None:
        with suppress(FileNotFoundError):
            os.chdir(directory)


def _put_back(read: Callable[[], Any], write: Callable[[Any], Any], before: Any) -> None:
    if read() != before:
        write(before)
