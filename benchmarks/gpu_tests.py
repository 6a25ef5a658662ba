"""The tests that need a GPU, run before anything is measured on one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.running import Budget

ROOT = Path(__file__).parents[1]
MAX_SECONDS = 180
MARK = "gpu"


@dataclass(frozen=True)
class Outcome:
    """How tests ended: one line, all that they printed, and whether any failed."""

    summary: str
    output: str = ""
    failed: bool = False


def run_gpu_tests(device: str, budget: Budget) -> Outcome:
    """Run the tests marked `gpu`; the result says why where they cannot run.

    Only files with such tests are collected: all of them would take as long again.
    """
    if device == "cpu":
        return Outcome("not run: there is no GPU here")
    if importlib.util.find_spec("pytest") is None:
        return Outcome("not run: pytest is not installed")
    reason = budget.refuse(0)
    if reason is not None:
        return Outcome(reason)
    return run_tests(files_with(MARK, ROOT / "tests"), MARK, min(MAX_SECONDS, budget.left))


def files_with(mark: str, directory: Path) -> list[Path]:
    """Files of tests that have a mark."""
    files = sorted(directory.rglob("test_*.py"))
    return [path for path in files if f"pytest.mark.{mark}" in path.read_text(encoding="utf-8")]


def run_tests(files: Sequence[Path], mark: str, seconds: float) -> Outcome:
    """Run the tests of some files that have a mark, for so many seconds at most."""
    command = [sys.executable, "-m", "pytest", "-m", mark, "-q", *map(str, files)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace")
        return Outcome(f"ended after {seconds:.0f} s", printed, failed=True)
    printed = f"{done.stdout}{done.stderr}"
    lines = done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
    return Outcome(lines[-1].strip("= "), printed, failed=done.returncode != 0)
