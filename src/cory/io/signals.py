"""Requests to end: SIGTERM (a scheduler's pre-emption), SIGINT (Ctrl-C), SIGHUP (a lost terminal).

A process that such a signal ended has the exit status 128 + its number: 143, 130, 129.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
STANDARD_ERROR = 2


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
