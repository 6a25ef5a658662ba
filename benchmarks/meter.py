"""Clocks of a measurement: where the time of an iteration goes, and what memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.floor import wait_for

REST = "rest"
Reading = tuple[float, float]


def read_clocks() -> Reading:
    """CPU seconds of all threads of this process, and elapsed seconds."""
    return time.process_time(), time.perf_counter()


class Meter:
    """CPU and elapsed seconds of one lap after the other, split into phases.

    A moment belongs to the innermost phase it lies in, or to `rest`, so phases add up to the lap.
    `optimizer_steps` counts those of every optimizer in the process.

    Args:
        device: waited for wherever a phase begins or ends.
        read: the clocks.
    """

    def __init__(
        self, device: torch.device | str = "cpu", read: Callable[[], Reading] = read_clocks
    ) -> None:
        self.device = torch.device(device)
        self.read = read
        self.laps: list[dict[str, Reading]] = []
        self.optimizer_steps = 0
        self._hook = register_optimizer_step_post_hook(self._count_step)
        self.start()

    def start(self) -> None:
        """Begin a lap; what came since the last one ended is dropped."""
        self._spent: dict[str, Reading] = {}
        self._phase = REST
        self._since = self._now()

    def close(self) -> None:
        """Stop counting optimizer steps."""
        self._hook.remove()

    def lap(self) -> None:
        """End a lap and begin the next one."""
        self._enter(REST)
        self.laps.append(self._spent)
        self.start()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Context whose time belongs to a phase."""
        before = self._enter(name)
        try:
            yield
        finally:
            self._enter(before)

    def timed(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        """The same function, its time counted."""

        @wraps(function, assigned=("__name__",))
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.phase(phase):
                return function(*args, **kwargs)

        return counted

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Count the time of an object's method."""
        setattr(owner, name, self.timed(getattr(owner, name), phase))

    def _enter(self, name: str) -> str:
        before, now = self._phase, self._now()
        spent = self._spent.get(before, (0.0, 0.0))
        self._spent[before] = (
            spent[0] + now[0] - self._since[0],
            spent[1] + now[1] - self._since[1],
        )
        self._phase, self._since = name, now
        return before

    def _now(self) -> Reading:
        wait_for(self.device)
        return self.read()

    def _count_step(self, *_: object) -> None:
        self.optimizer_steps += 1


def peak_bytes(device: torch.device | str = "cpu") -> int:
    """The most memory this process ever held: resident, or on an accelerator allocated."""
    if torch.device(device).type != "cpu":
        return torch.accelerator.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says on Linux includes the process that started this one.
        [peak] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(peak.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
