"""One process per case: start it, read what it measured, go on where one cannot be measured."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cases import SHAPES, Case, write_case
from benchmarks.files import read_json, save_files
from benchmarks.measurement import Measurement, measurement_from

WORKERS = {
    ("cory", "ppo"): "benchmarks.workers.ours",
    ("cory", "grpo"): "benchmarks.workers.ours",
    ("trl", "ppo"): "benchmarks.workers.trl_ppo",
    ("trl", "grpo"): "benchmarks.workers.trl_grpo",
}
MAX_SECONDS = 1800


class MeasuringError(Exception):
    """A case cannot be measured here; the message says why."""


@dataclass
class Results:
    """What a run measured, and why it left out the rest."""

    measured: dict[str, Measurement] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """Seconds that a run may take, from now on; by `clock`."""

    seconds: float = math.inf
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "started", self.clock())

    @property
    def left(self) -> float:
        """Seconds until the end, negative after it."""
        return self.started + self.seconds - self.clock()

    def refuse(self, needed: float) -> str | None:
        """Why something does not fit any more that takes so many seconds; None: it may."""
        if self.left > max(needed, 0):
            return None
        return (
            f"skipped: {max(self.left, 0):.0f} s of {self.seconds:.0f} s were left, and it needs "
            f"more than {needed:.0f} s"
        )


@dataclass(frozen=True)
class Bench:
    """Where files and processes come from.

    Args:
        directory: scratch space.
        texts: reviews that prompts and the tokenizer are made from.
        pythons: interpreter by worker module; others run in this process's own.
        budget: ends a case, and skips those that need more than is left: as long as the longest
            one of their shape took so far.
    """

    directory: Path
    texts: Sequence[str]
    pythons: dict[str, str] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)

    def run(
        self, cases: Iterable[Case], refuse: Callable[[Case], str | None], results: Results
    ) -> Iterator[str]:
        """Measure one case after the other.

        Args:
            refuse: says why a case has no meaning on this machine; None: it has.
            results: filled.

        Yields:
            a line on each case, once it is done.
        """
        longest: dict[str, float] = {}
        for case in cases:
            started = time.perf_counter()
            needed = longest.get(case.shape, 0.0)
            reason = refuse(case) or self.budget.refuse(needed)
            if reason is None:
                try:
                    # Made once for all cases of a shape, so no measure of what another one takes.
                    self._files(case)
                    begun = time.perf_counter()
                    results.measured[case.name] = self.measure(case)
                    longest[case.shape] = max(needed, time.perf_counter() - begun)
                except MeasuringError as error:
                    reason = str(error)
            if reason is not None:
                results.reasons[case.name] = reason
            yield f"{case.name}: {reason or f'{time.perf_counter() - started:.0f} s'}"

    def measure(self, case: Case) -> Measurement:
        """Measure a case in a process of its own.

        Raises:
            MeasuringError: the process failed, or went on for too long.
        """
        module = WORKERS[case.side, case.algorithm]
        python = self.pythons.get(module, sys.executable)
        if shutil.which(python) is None:
            raise MeasuringError(f"there is no {python}")
        files = self._files(case)
        case_path, result = self.directory / "case.json", self.directory / "result.json"
        write_case(case, case_path)
        command = [python, "-m", module, str(case_path), str(files), str(result)]
        seconds = min(MAX_SECONDS, self.budget.left)
        if seconds <= 0:
            raise MeasuringError("no time was left once its model had been made")
        try:
            process = subprocess.run(
                command,
                env=_environment(case),
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise MeasuringError(f"{module} was ended after {seconds:.0f} s") from error
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise MeasuringError(f"{module} failed: {lines[-1]}")
        return measurement_from(read_json(self.directory, "result.json"))

    def _files(self, case: Case) -> Path:
        """The files of a case, made once for all cases that can share them."""
        shortest, longest = case.prompt_tokens
        name = f"{case.shape}-{case.dtype}-{shortest}-{longest}"
        files = self.directory / name
        if not files.exists():
            save_files(files, case, SHAPES[case.shape], self.texts)
        shutil.rmtree(files / "language-model-run", ignore_errors=True)
        return files


def _environment(case: Case) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(case.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
