"""Which code and which machine made a number."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

LIBRARIES = ("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes")


def environment() -> dict[str, str | int | None]:
    """Versions of Python, of cory and of what it computes with, its commit, and the machine.

    `commit` is None where cory does not run from a checkout; it ends in `+changes` where the
    checkout differs from it.
    """
    return {
        "cory": metadata.version("cory"),
        "commit": commit(Path(__file__).parents[1]),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


@cache
def commit(directory: Path) -> str | None:
    """The commit of the files in a directory; None if git does not keep them.

    A package in somebody's virtual environment lies inside that somebody's checkout, but is no
    part of it.
    """
    if _git(directory, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    revision = _git(directory, "rev-parse", "HEAD")
    return f"{revision}+changes" if revision and _git(directory, "status", "-s", ".") else revision


def _git(directory: Path, *words: str) -> str | None:
    """What git says; None if it is not there or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name; Linux tells it in /proc/cpuinfo alone."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
