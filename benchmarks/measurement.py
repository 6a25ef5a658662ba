"""What a process measured, and what follows from it."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case

PHASES = ("generate", "score", "reward", "update", "rest")
"""Score: the reference's pass, and one of the policy's own where a trainer makes it."""


@dataclass(frozen=True)
class Measurement:
    """One case as it was measured.

    `laps` has per iteration and phase the CPU seconds of all threads and the elapsed seconds;
    `total_tokens` (prompts and answers), `answer_tokens` and `optimizer_steps` are those of one
    iteration; `matrix_rate` is in floating-point operations per second, `copy_rate` in bytes per
    second, `model_bytes` the size of the initial language model's weights.
    """

    case: Case
    laps: list[dict[str, tuple[float, float]]]
    total_tokens: int
    answer_tokens: int
    optimizer_steps: int
    peak_bytes: int
    matrix_rate: float
    body_weights: int
    head_weights: int
    model_bytes: int
    versions: dict[str, str]
    copy_rate: float

    @property
    def cpu_seconds(self) -> float:
        """Of an iteration: the median over laps."""
        return self._median(0)

    @property
    def wall_seconds(self) -> float:
        """The same, elapsed."""
        return self._median(1)

    @property
    def seconds(self) -> float:
        """Those that `matrix_rate` is counted in: CPU seconds on a CPU, else elapsed ones."""
        return self.cpu_seconds if self.case.device == "cpu" else self.wall_seconds

    def phase_seconds(self, phase: str) -> float:
        """Mean over laps of what a phase took, in `seconds`."""
        clock = 0 if self.case.device == "cpu" else 1
        return statistics.mean(lap.get(phase, (0.0, 0.0))[clock] for lap in self.laps)

    @property
    def forward_flop(self) -> float:
        """Floating-point operations of one forward pass of every agent on its own sequences."""
        return 2.0 * (
            self.body_weights * self.total_tokens + self.head_weights * self.answer_tokens
        )

    @property
    def update_flop(self) -> float:
        """Of the updates of all agents."""
        return self.forward_flop * self.case.num_epochs * self.case.passes_per_epoch

    @property
    def floor_seconds(self) -> float:
        """Seconds that the matrix products alone would take; see `benchmarks.floor`."""
        return (2 * self.forward_flop + self.update_flop) / self.matrix_rate

    @property
    def times_floor(self) -> float:
        """How many times the floor the iteration took."""
        return self.seconds / self.floor_seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens of prompts and answers per elapsed second of the whole iteration."""
        return self.total_tokens / self.wall_seconds

    def _median(self, clock: int) -> float:
        return statistics.median(sum(spent[clock] for spent in lap.values()) for lap in self.laps)

    def check(self) -> None:
        """Refuse a measurement of other work than its case asks for.

        Raises:
            ValueError: tokens or optimizer steps differ.
        """
        for name in ("answer_tokens", "optimizer_steps"):
            done, asked = getattr(self, name), getattr(self.case, name)
            if done != asked:
                raise ValueError(f"{self.case.name}: {done} {name}, but the case asks for {asked}")


def check_same_work(ours: Measurement, theirs: Measurement) -> None:
    """Refuse to compare two measurements of different work.

    Raises:
        ValueError: cases, tokens, optimizer steps or models differ.
    """
    for name in ("answer_tokens", "total_tokens", "optimizer_steps", "body_weights"):
        mine, yours = getattr(ours, name), getattr(theirs, name)
        if mine != yours:
            raise ValueError(f"{ours.case.name}: {mine} {name}, {theirs.case.name}: {yours}")
    if ours.case.work != theirs.case.work:
        raise ValueError(f"{ours.case.name} and {theirs.case.name} ask for different work")


def write_measurement(measurement: Measurement, path: Path) -> None:
    """Write what was measured as JSON."""
    path.write_text(json.dumps(asdict(measurement)))


def measurement_from(record: dict[str, Any]) -> Measurement:
    """A measurement from its JSON."""
    case = {**record["case"], "prompt_tokens": tuple(record["case"]["prompt_tokens"])}
    laps = [{phase: tuple(spent) for phase, spent in lap.items()} for lap in record["laps"]]
    return Measurement(**{**record, "case": Case(**case), "laps": laps})
