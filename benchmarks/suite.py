"""The cases behind the project's numbers on a CPU, and what is read off them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.measurement import Measurement, check_same_work

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

    `value` is computed from measurements by case; `goal` is what the project asks for, at least or
    at most as `more_is_better` says.
    """

    name: str
    needs: tuple[str, ...]
    value: Callable[..., float]
    goal: float
    more_is_better: bool = False
    form: str = "{:.2f} ×"

    def met(self, value: float) -> bool:
        """Whether the goal is reached."""
        return value >= self.goal if self.more_is_better else value <= self.goal


def times_floor(case: Measurement) -> float:
    """Times the floor."""
    return case.times_floor


def speedup(ours: Measurement, theirs: Measurement) -> float:
    """How many times faster ours is, in CPU seconds, on work that is checked to be the same."""
    check_same_work(ours, theirs)
    return theirs.cpu_seconds / ours.cpu_seconds


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


NUMBERS = (
    Number("CORY, small GPT-2: × floor", ("cory",), times_floor, 1.6),
    Number("PPO against TRL 0.11.4's", ("ppo", "trl-ppo"), speedup, 1.8, more_is_better=True),
    Number("GRPO against current TRL's", ("grpo", "trl-grpo"), speedup, 1.8, more_is_better=True),
    Number("CORY, GPT-2 124M shape, batch 16: × floor", ("cory-gpt2",), times_floor, 1.6),
    Number(
        "CORY, bf16 autocast against float32", ("cory", "cory-bf16"), elapsed_speedup, 1.5, True
    ),
    Number("CORY, 135M Llama: × floor", ("cory-llama",), times_floor, 2.5),
    Number("CORY, 135M Llama, bf16: × floor", ("cory-llama-bf16",), times_floor, 2.5),
    Number(
        "CORY, 135M Llama, bf16 against float32",
        ("cory-llama", "cory-llama-bf16"),
        elapsed_speedup,
        4.0,
        True,
    ),
    Number(
        "CORY, 135M Llama, bf16: LoRA's seconds over full copies'",
        ("cory-llama-bf16", "cory-llama-lora-bf16"),
        slowdown,
        0.7,
    ),
    Number("CORY, small GPT-2: peak memory", ("cory",), gigabytes, 1.8, form="{:.2f} GB"),
    Number(
        "second adapter: extra memory, share of the base",
        ("one-adapter", "two-adapters"),
        extra_memory,
        15,
        form="{:.1f}%",
    ),
    Number("batch 256 → 1024: time over work", ("one-epoch", "batch-1024"), growth, 1.1),
    Number("answers of 16 → 64 tokens: time over work", ("one-epoch", "64-tokens"), growth, 1.1),
    Number("team of 2 → 4: time over work", ("team-of-2", "team-of-4"), growth, 1.1),
    Number("CORY, two cores against one", ("cory", "cory-two-threads"), elapsed_speedup, 1.7, True),
)


def summarise(measured: Mapping[str, Measurement]) -> list[tuple[Number, float | None]]:
    """Every number with its value; None where a case that it needs was not measured."""
    return [
        (
            number,
            number.value(*(measured[name] for name in number.needs))
            if set(number.needs) <= measured.keys()
            else None,
        )
        for number in NUMBERS
    ]
