"""What a run ran on, for its record."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from cory.training.environment import environment, processor


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_model(info: Path = Path("/proc/cpuinfo")) -> str:
    """Family and model of the processor, which its name leaves out in many virtual machines.

    Empty where the system does not tell.
    """
    lines = info.read_text().splitlines() if info.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    known = [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return f" ({', '.join(known)})" if known else ""


def describe_run(program: str, arguments: list[str]) -> dict[str, str]:
    """Machine, system, code, time and command."""
    processes = os.getloadavg()[-1] if hasattr(os, "getloadavg") else float("nan")
    return {
        "machine": f"{processor()}{processor_model()}; cores for this process: {num_cores()}",
        "system": f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}",
        "load": f"{processes:.1f} processes on {os.cpu_count()} cores, mean of the last 15 minutes",
        "commit": str(environment()["commit"]),
        "finished": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": " ".join(["python -m", program, *arguments]),
    }
