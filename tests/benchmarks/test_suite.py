"""`benchmarks.suite` and `benchmarks.table`: the numbers are what they are called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.cases import SHAPES
from benchmarks.measurement import Measurement
from benchmarks.suite import CASES, NUMBERS, summarise
from benchmarks.table import iteration_table, number_table, phase_table

Make = Callable[..., Measurement]
BY_NAME = {case.name: case for case in CASES}
NUMBER = {number.name: number for number in NUMBERS}


def test_cases_and_numbers_fit_together() -> None:
    """Prevents a number that can never be computed, and a case that is measured for nothing."""
    assert len(BY_NAME) == len(CASES)
    assert {case.shape for case in CASES} <= SHAPES.keys()
    assert {name for number in NUMBERS for name in number.needs} == BY_NAME.keys()


def test_compared_trainers_are_asked_for_the_same_work() -> None:
    """Prevents a suite that fails after ten minutes, when it compares."""
    for ours, theirs in (("ppo", "trl-ppo"), ("grpo", "trl-grpo")):
        assert BY_NAME[ours].work == BY_NAME[theirs].work


def test_what_grows_is_one_thing_at_a_time() -> None:
    """Prevents a growth in batch that is one in epochs, too."""
    changed = {
        ("one-epoch", "batch-1024"): {"batch_size"},
        ("one-epoch", "64-tokens"): {"num_tokens"},
        ("team-of-2", "team-of-4"): {"num_agents"},
        ("one-adapter", "two-adapters"): {"num_agents"},
        ("cory", "cory-two-threads"): {"threads"},
        ("cory", "cory-bf16"): {"bf16"},
        ("cory-llama", "cory-llama-bf16"): {"bf16"},
        ("cory-llama-bf16", "cory-llama-lora-bf16"): {"adapters"},
    }
    for (base, other), keys in changed.items():
        before, after = BY_NAME[base].work, BY_NAME[other].work
        assert {key for key in before if before[key] != after[key]} == keys


def test_values_by_hand(make_measurement: Make) -> None:
    """Prevents ratios upside down: twice the CPU seconds is half as fast."""
    slow = [{"update": (8.0, 12.0)}]
    measured = {name: make_measurement(case) for name, case in BY_NAME.items()}
    measured["trl-ppo"] = make_measurement(BY_NAME["trl-ppo"], laps=slow)
    measured["cory-two-threads"] = make_measurement(BY_NAME["cory-two-threads"], laps=slow)
    measured["batch-1024"] = make_measurement(BY_NAME["batch-1024"], laps=slow)
    measured["two-adapters"] = make_measurement(BY_NAME["two-adapters"], peak_bytes=10**9 + 440)
    values = {number.name: value for number, value in summarise(measured)}
    assert values["PPO against TRL 0.11.4's"] == 2.0
    assert values["CORY, two cores against one"] == 0.5
    assert values["second adapter: extra memory, share of the base"] == pytest.approx(10.0)
    # Twice the seconds for four times the work.
    assert values["batch 256 → 1024: time over work"] == pytest.approx(0.5)
    assert NUMBER["PPO against TRL 0.11.4's"].met(2.0)
    assert not NUMBER["batch 256 → 1024: time over work"].met(1.2)


def test_tables_say_what_was_not_measured_and_why(make_measurement: Make) -> None:
    """Prevents a blank that could be read as a success."""
    measured = {"cory": make_measurement(BY_NAME["cory"])}
    text = number_table(summarise(measured), {"trl-ppo": "there is no python"})
    assert "GRPO against" not in text
    assert "| PPO against TRL 0.11.4's | not measured: there is no python | ≥ 1.80 × |  |" in text
    assert "| CORY, small GPT-2: peak memory | 1.00 GB | ≤ 1.80 GB | yes |" in text
    for table in (iteration_table, phase_table):
        header, rule, line = table(list(measured.values())).splitlines()
        assert header.count("|") == rule.count("|") == line.count("|")
    assert "| cory | cory 0.1 ppo | small | 2 × 256 × 10 | 4 | 4.00 | 6.00 |" in iteration_table(
        list(measured.values())
    )
