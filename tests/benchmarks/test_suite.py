"""`benchmarks.suite` and `benchmarks.table`: the numbers are what they are called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.cases import SHAPES
from benchmarks.goals import PROCESSORS
from benchmarks.measurement import Measurement
from benchmarks.suite import CASES, NUMBERS, summarise
from benchmarks.table import iteration_table, number_table, own_floor_table, phase_table

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
    pairs = (
        ("ppo", "trl-ppo"),
        ("grpo", "trl-grpo"),
        ("grpo-llama-bf16", "trl-grpo-llama-bf16"),
    )
    for ours, theirs in pairs:
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
    values = {line.number.name: line.value for line in summarise(measured, {})}
    assert values["PPO against TRL 0.11.4's"] == 2.0
    assert values["CORY, two cores against one"] == 0.5
    assert values["second adapter: extra memory, share of the base"] == pytest.approx(10.0)
    # Twice the seconds for four times the work.
    assert values["batch 256 → 1024: time over work"] == pytest.approx(0.5)
    # Twice as many agents, and so answers, in the same seconds.
    throughput = "CORY, 135M Llama, bf16: answer tokens/s against TRL's GRPO"
    assert values[throughput] == pytest.approx(2.0)


def test_both_floors_are_shown_and_the_goal_is_held_against_that_of_large_products(
    make_measurement: Make,
) -> None:
    """Prevents goals that are met because the floor has changed under them."""
    measured = {"cory": make_measurement(BY_NAME["cory"], matrix_rate=1e9)}
    [line] = [line for line in summarise(measured, {}) if line.own is not None]
    assert line.value == measured["cory"].times_floor > 1.4
    assert line.own == measured["cory"].times_own_floor == 1.0
    assert line.number.verdict(line.value, "AMX").startswith("missed by")


def test_cases_that_did_other_work_leave_the_others_their_table(make_measurement: Make) -> None:
    """Prevents one comparison that fails from losing all that was measured."""
    measured = {name: make_measurement(BY_NAME[name]) for name in ("ppo", "trl-ppo", "cory")}
    measured["trl-ppo"] = make_measurement(BY_NAME["trl-ppo"], total_tokens=1)
    text = number_table(summarise(measured, {}), "AMX")
    assert "not comparable: ppo: 8192 total_tokens, trl-ppo: 1" in text
    assert "| CORY, small GPT-2: peak memory | 1.00 GB |" in text


def test_goals_are_those_of_the_processor() -> None:
    """Prevents a goal of AMX on a machine that has none, and bfloat16 goals where it is slow."""
    floor = NUMBER["CORY, small GPT-2: × floor"]
    assert floor.verdict(1.3, "AMX") == "met"
    assert floor.verdict(1.3, "AVX512-BF16") == floor.verdict(1.3, "plain") == "missed by 4%"
    assert floor.verdict(1.1, "AMX") == "aim reached"
    in_bf16 = NUMBER["CORY, small GPT-2, bf16: × floor"]
    assert in_bf16.verdict(2.5, "AMX") == "met"
    assert in_bf16.verdict(2.5, "AVX512-BF16") == "missed by 67%"
    against = NUMBER["PPO against TRL 0.11.4's"]
    assert [against.verdict(value, "plain") for value in (2.0, 2.2, 2.6)] == [
        "missed by 9%",
        "met",
        "aim reached",
    ]
    for number in NUMBERS:
        needs_bf16 = any(BY_NAME[name].bf16 for name in number.needs)
        assert number.goals.keys() <= PROCESSORS.keys()
        assert not (needs_bf16 and "plain" in number.goals)
        for goal in number.goals.values():
            assert goal.aim is None or number.reaches(goal.aim, goal.must)


def test_tables_say_what_was_not_measured_and_why(make_measurement: Make) -> None:
    """Prevents a blank that could be read as a success."""
    measured = {"cory": make_measurement(BY_NAME["cory"])}
    text = number_table(summarise(measured, {"trl-ppo": "there is no python"}), "AMX")
    assert "GRPO against" not in text
    reason = "not measured: there is no python"
    assert f"| PPO against TRL 0.11.4's | {reason} |  | ≥ 2.20 × | ≥ 2.60 × |  |" in text
    assert "| CORY, small GPT-2: peak memory | 1.00 GB |  | ≤ 1.20 GB |  | met |" in text
    for table in (iteration_table, phase_table, own_floor_table):
        header, rule, line = table(list(measured.values())).splitlines()
        assert header.count("|") == rule.count("|") == line.count("|")
    assert "| cory | cory 0.1 ppo | small | 2 × 256 × 10 | 4 | 4.00 | 6.00 |" in iteration_table(
        list(measured.values())
    )
    # 1 s of generation over 1 s, no score, 3 s of learning over 3 s, at 5e5 operations in 0.75 s.
    assert "| cory | 1.00 | – | 1.00 | 0 | 1.0 |" in own_floor_table(list(measured.values()))
