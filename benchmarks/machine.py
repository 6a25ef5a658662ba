"""What a run ran on, for its record."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime

from cory.training.environment import environment, processor


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_run(program: str, arguments: list[str]) -> dict[str, str]:
    """Machine, system, code, time and command."""
    processes = os.getloadavg()[-1] if hasattr(os, "getloadavg") else float("nan")
    return {
        "machine": f"{processor()}; cores for this process: {num_cores()}",
        "system": f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}",
        "load": f"{processes:.1f} processes on {os.cpu_count()} cores, mean of the last 15 minutes",
        "commit": str(environment()["commit"]),
        "finished": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": " ".join(["python -m", program, *arguments]),
    }
