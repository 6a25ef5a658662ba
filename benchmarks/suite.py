"""The cases behind the project's numbers on a CPU, and what is read off them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.goals import Goal, Goals, MachineClass, by_tiles, everywhere, with_bf16
from benchmarks.measurement import Measurement, check_same_sampling, check_same_work

CORY = {"num_agents": 2, "num_tokens": 10}
"""Ten tokens are what the paper's answers of 4 to 15 are on average."""
GRPO = {"algorithm": "grpo", "num_generations": 8, "num_epochs": 1}
TRL_MICRO_BATCH = {"micro_batch": 64}
"""Half the memory of the whole batch at once, and faster in single laps on a busy machine."""
ONE_EPOCH = {"num_epochs": 1, "steps": 1}
ADAPTERS = {"shape": "gpt2", "batch_size": 16, "adapters": True, "transfer": False, **ONE_EPOCH}
"""Everybody has the plain prompt, so that what a second agent adds is not its longer prompts."""

LLAMA = {"shape": "smollm2", "batch_size": 16, "num_epochs": 2, "steps": 1, **CORY}
"""The shape of SmolLM2-135M, the real model of the experiments."""
LLAMA_GRPO = {**LLAMA, **GRPO, "num_agents": 1, "num_epochs": 2, "bf16": True}

CASES = (
    Case("cory", **CORY),
    Case("cory-two-threads", threads=2, **CORY, steps=4),
    Case("cory-bf16", bf16=True, **CORY),
    Case("ppo"),
    Case("trl-ppo", side="trl", **TRL_MICRO_BATCH),
    Case("grpo", **GRPO),
    Case("trl-grpo", side="trl", **GRPO, **TRL_MICRO_BATCH),
    Case("cory-gpt2", shape="gpt2", batch_size=16, **CORY, steps=1),
    Case("cory-llama", **LLAMA),
    Case("cory-llama-bf16", bf16=True, **LLAMA),
    Case("trl-grpo-llama-bf16", side="trl", **LLAMA_GRPO),
    Case("grpo-llama-bf16", **LLAMA_GRPO),
    Case("cory-llama-lora-bf16", bf16=True, adapters=True, **LLAMA),
    Case("one-epoch", num_epochs=1),
    Case("batch-1024", batch_size=1024, **ONE_EPOCH),
    Case("64-tokens", num_tokens=64, **ONE_EPOCH),
    Case("team-of-2", num_agents=2, batch_size=64, **ONE_EPOCH),
    Case("team-of-4", num_agents=4, batch_size=64, **ONE_EPOCH),
    Case("one-adapter", **ADAPTERS),
    Case("two-adapters", num_agents=2, **ADAPTERS),
)
"""Cases that are compared are neighbours, so that a machine that slows down slows both."""


@dataclass(frozen=True)
class Number:
    """One line of the summary.

    `value` is computed from measurements by case. `goals` is what the project asks for by class of
    processor, at least or at most as `more_is_better` says; where there is none, the number is for
    information. `by_own_shapes` is the same number by the other floor.
    """

    name: str
    needs: tuple[str, ...]
    value: Callable[..., float]
    goals: Goals
    more_is_better: bool = False
    form: str = "{:.2f} ×"
    by_own_shapes: Callable[..., float] | None = None

    def reaches(self, value: float, bound: float) -> bool:
        """Whether a value is as good as a bound."""
        return value >= bound if self.more_is_better else value <= bound

    def verdict(self, value: float, machine: MachineClass) -> str:
        """Whether the goal of this class of processor is met, and by how much it is not."""
        goal: Goal | None = self.goals.get(machine)
        if goal is None:
            return "no goal here"
        if not self.reaches(value, goal.must):
            return f"missed by {abs(value / goal.must - 1):.0%}"
        return "aim reached" if goal.aim and self.reaches(value, goal.aim) else "met"


def times_floor(case: Measurement) -> float:
    """Times the floor of large products."""
    return case.times_floor


def times_own_floor(case: Measurement) -> float:
    """Times the floor of the case's own shapes."""
    return case.times_own_floor


def speedup(ours: Measurement, theirs: Measurement) -> float:
    """How many times faster ours is, in CPU seconds, on work that is checked to be the same."""
    check_same_work(ours, theirs)
    return theirs.cpu_seconds / ours.cpu_seconds


def throughput(ours: Measurement, theirs: Measurement) -> float:
    """How many times as many answer tokens per second ours samples and learns from."""
    check_same_sampling(ours, theirs)
    return (ours.answer_tokens / ours.seconds) / (theirs.answer_tokens / theirs.seconds)


def elapsed_speedup(base: Measurement, other: Measurement) -> float:
    """How many times sooner the other one is done."""
    return base.wall_seconds / other.wall_seconds


def slowdown(base: Measurement, other: Measurement) -> float:
    """Seconds of the other one, over those of the base."""
    return other.cpu_seconds / base.cpu_seconds


def growth(base: Measurement, larger: Measurement) -> float:
    """Growth of time over growth of the floor: 1 where time grows as the work does."""
    return larger.times_floor / base.times_floor


def gigabytes(case: Measurement) -> float:
    """Peak memory of the whole process in 10⁹ bytes."""
    return case.peak_bytes / 1e9


def extra_memory(one: Measurement, two: Measurement) -> float:
    """What a second agent adds to peak memory, in per cent of the base model."""
    return 100 * (two.peak_bytes - one.peak_bytes) / one.model_bytes


def floor_number(name: str, case: str, goals: Goals) -> Number:
    """An iteration over its floors."""
    return Number(name, (case,), times_floor, goals, by_own_shapes=times_own_floor)


NUMBERS = (
    floor_number("CORY, small GPT-2: × floor", "cory", by_tiles(1.25, 1.4, aim=1.15)),
    floor_number(
        "CORY, small GPT-2, bf16: × floor",
        "cory-bf16",
        {"AVX512-BF16": Goal(1.5), "AMX": Goal(3.0, aim=2.0)},
    ),
    Number(
        "CORY, bf16 against float32", ("cory", "cory-bf16"), elapsed_speedup, with_bf16(1.5), True
    ),
    floor_number(
        "CORY, GPT-2 124M shape, batch 16: × floor", "cory-gpt2", by_tiles(1.3, 1.4, aim=1.15)
    ),
    floor_number("CORY, 135M Llama: × floor", "cory-llama", everywhere(2.5)),
    floor_number("CORY, 135M Llama, bf16: × floor", "cory-llama-bf16", with_bf16(2.5)),
    Number(
        "CORY, 135M Llama, bf16 against float32",
        ("cory-llama", "cory-llama-bf16"),
        elapsed_speedup,
        {"AMX": Goal(4.0, aim=6.0)},
        more_is_better=True,
    ),
    floor_number("CORY, 135M Llama, LoRA, bf16: × floor", "cory-llama-lora-bf16", with_bf16(2.5)),
    Number(
        "CORY, 135M Llama, bf16: LoRA's seconds over full copies'",
        ("cory-llama-bf16", "cory-llama-lora-bf16"),
        slowdown,
        with_bf16(0.7),
    ),
    floor_number("one LoRA agent, 124M shape: × floor", "one-adapter", everywhere(1.6, 1.3)),
    floor_number("two LoRA agents, 124M shape: × floor", "two-adapters", everywhere(1.6, 1.3)),
    Number(
        "PPO against TRL 0.11.4's",
        ("ppo", "trl-ppo"),
        speedup,
        everywhere(2.2, aim=2.6),
        more_is_better=True,
    ),
    Number(
        "GRPO against current TRL's",
        ("grpo", "trl-grpo"),
        speedup,
        everywhere(2.5, aim=3.0),
        more_is_better=True,
    ),
    Number(
        "CORY, 135M Llama, bf16: answer tokens/s against TRL's GRPO",
        ("cory-llama-bf16", "trl-grpo-llama-bf16"),
        throughput,
        with_bf16(3.0, aim=5.0),
        more_is_better=True,
    ),
    Number(
        "GRPO, 135M Llama, bf16, equal work, against TRL's",
        ("grpo-llama-bf16", "trl-grpo-llama-bf16"),
        speedup,
        {},
        more_is_better=True,
    ),
    Number(
        "CORY, small GPT-2: peak memory", ("cory",), gigabytes, everywhere(1.2), form="{:.2f} GB"
    ),
    Number(
        "second adapter: extra memory, share of the base",
        ("one-adapter", "two-adapters"),
        extra_memory,
        everywhere(8),
        form="{:.1f}%",
    ),
    Number(
        "batch 256 → 1024: time over work", ("one-epoch", "batch-1024"), growth, everywhere(1.1)
    ),
    Number(
        "answers of 16 → 64 tokens: time over work",
        ("one-epoch", "64-tokens"),
        growth,
        everywhere(1.1),
    ),
    Number("team of 2 → 4: time over work", ("team-of-2", "team-of-4"), growth, everywhere(1.1)),
    Number(
        "CORY, two cores against one",
        ("cory", "cory-two-threads"),
        elapsed_speedup,
        everywhere(1.85, aim=1.95),
        more_is_better=True,
    ),
)


@dataclass(frozen=True)
class Line:
    """What became of a number.

    Without a `value`, a case that it needs was not measured, or cases cannot be compared, and
    `reason` says why. `own` is the value by own shapes, if there is one.
    """

    number: Number
    value: float | None = None
    own: float | None = None
    reason: str | None = None


def summarise(
    measured: Mapping[str, Measurement],
    reasons: Mapping[str, str],
    numbers: Sequence[Number] = NUMBERS,
) -> list[Line]:
    """Every number that can be computed, or of which it is known why it cannot."""
    lines = []
    for number in numbers:
        missing = [reasons[name] for name in number.needs if name in reasons]
        if missing:
            lines.append(Line(number, reason=f"not measured: {'; '.join(missing)}"))
        elif set(number.needs) <= measured.keys():
            lines.append(_line(number, [measured[name] for name in number.needs]))
    return lines


def _line(number: Number, cases: Sequence[Measurement]) -> Line:
    own = number.by_own_shapes
    try:
        return Line(number, number.value(*cases), None if own is None else own(*cases))
    except ValueError as error:
        # Two cases did different work; the others are still worth their table.
        return Line(number, reason=f"not comparable: {error}")
