"""Requests to end: SIGTERM (a scheduler's pre-emption), SIGINT (Ctrl-C), SIGHUP (a lost terminal).

A process that such a signal ended has the exit status 128 + its number: 143, 130, 129.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
STANDARD_INPUT, STANDARD_ERROR = 0, 2


class Stopped(SystemExit):
    """A signal ended the work; the process has the exit status 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class Interruption:
    """Context in which a request to end waits until it can be met.

    The first is remembered as `requested`; whoever works here looks where stopping loses nothing.
    A second one raises `Stopped` at once. Signals that are ignored, as after `nohup`, stay
    so; outside the main thread, where Python handles no signals, nothing changes.

    Args:
        promise: what will be done at the first request, for a message.
    """

    def __init__(self, promise: str) -> None:
        self.promise = promise
        self.requested: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.requested is not None:
            _say(f"{name} came after {self.requested.name}: stopped at once")
            raise Stopped(number)
        self.requested = signal.Signals(number)
        _say(f"{name}: {self.promise}; a second signal stops at once")


ON_A_LINE = "CORY_ENDS_WITH_ITS_STANDARD_INPUT"
"""The variable that tells a process to end with the one that started it."""


@contextmanager
def lifeline() -> Iterator[int]:
    """A file to be the standard input of processes that shall end with this one.

    It is a pipe that nobody writes to. Its other end is closed by the operating system when this
    process ends, also by kill -9.
    """
    end, own = os.pipe()
    try:
        yield end
    finally:
        os.close(end)
        os.close(own)


def end_with_the_parent() -> None:
    """Let this process get SIGTERM when its `lifeline` ends; nothing, where it is on none."""
    if os.environ.pop(ON_A_LINE, None) is None:
        return
    line = os.dup(STANDARD_INPUT)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), STANDARD_INPUT)
    threading.Thread(target=_watch, args=(line,), daemon=True).start()


def _watch(line: int) -> None:
    while os.read(line, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def stop_at_once() -> None:
    """From now on SIGTERM and SIGHUP raise `Stopped`, as SIGINT raises `KeyboardInterrupt`."""
    for number in NUMBERS:
        if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _say(text: str) -> None:
    # A handler may interrupt a write to sys.stderr, which must not be entered again.
    os.write(STANDARD_ERROR, f"cory: {text}\n".encode())
