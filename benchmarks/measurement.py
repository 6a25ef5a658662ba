"""What a process measured, and what follows from it."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.products import TimedPass

PHASES = ("generate", "score", "reward", "update", "rest")
"""Score: the reference's pass, and one of the policy's own where a trainer makes it."""


@dataclass(frozen=True)
class Measurement:
    """One case as it was measured.

    `laps` has per iteration and phase the CPU seconds of all threads and the elapsed seconds;
    `total_tokens` (prompts and answers), `answer_tokens` and `optimizer_steps` are those of one
    iteration; `matrix_rate` is in floating-point operations per second, `memory_rate` in bytes per
    second, `model_bytes` the size of the initial language model's weights, `passes` what an
    iteration cannot do without (`benchmarks.products`).
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
    memory_rate: float
    passes: list[TimedPass]

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
        """Seconds that the matrix products alone would take at the rate of one large product."""
        return (2 * self.forward_flop + self.update_flop) / self.matrix_rate

    @property
    def times_floor(self) -> float:
        """How many times the floor of large products the iteration took."""
        return self.seconds / self.floor_seconds

    def own_floor_seconds(self, *phases: str) -> float:
        """Seconds of the products at their own shapes, or of memory where that is slower.

        Args:
            phases: those that count; none: all of them.
        """
        return sum(
            one.floor_seconds(self.memory_rate)
            for one in self.passes
            if not phases or one.phase in phases
        )

    @property
    def times_own_floor(self) -> float:
        """How many times the floor of its own shapes the iteration took."""
        return self.seconds / self.own_floor_seconds()

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


def check_same_sampling(ours: Measurement, theirs: Measurement) -> None:
    """Refuse to compare the throughput of trainers that do not do the same with an answer token.

    How many agents there are, and what their prompts hold, may differ: more of both is more work.

    Raises:
        ValueError: models, number formats, answers per agent or epochs differ.
    """
    free = ("algorithm", "num_agents", "transfer", "num_generations")
    asked = [
        {key: value for key, value in one.case.work.items() if key not in free}
        for one in (ours, theirs)
    ]
    if asked[0] != asked[1] or ours.body_weights != theirs.body_weights:
        raise ValueError(f"{ours.case.name} and {theirs.case.name} do other work per token")


def write_measurement(measurement: Measurement, path: Path) -> None:
    """Write what was measured as JSON."""
    path.write_text(json.dumps(asdict(measurement)))


def measurement_from(record: dict[str, Any]) -> Measurement:
    """A measurement from its JSON."""
    case = {**record["case"], "prompt_tokens": tuple(record["case"]["prompt_tokens"])}
    laps = [{phase: tuple(spent) for phase, spent in lap.items()} for lap in record["laps"]]
    timed = [TimedPass(**one) for one in record["passes"]]
    return Measurement(**{**record, "case": Case(**case), "laps": laps, "passes": timed})
