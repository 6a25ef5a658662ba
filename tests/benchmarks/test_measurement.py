"""`benchmarks.measurement`: what follows from clocks and counts, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.cases import Case
from benchmarks.measurement import (
    Measurement,
    check_same_sampling,
    check_same_work,
    measurement_from,
    write_measurement,
)

Make = Callable[..., Measurement]


def test_the_floor_by_hand(make_measurement: Make) -> None:
    """Prevents a floor that counts prompts in the head, or forgets a pass.

    One pass to generate, one of the reference, three per epoch; the body on all tokens, the head
    on answers.
    """
    case = Case("x", batch_size=2, num_tokens=5, num_epochs=4)
    measured = make_measurement(case, total_tokens=13)
    forward = 2 * (1000 * 13 + 100 * 10)
    assert measured.floor_seconds == pytest.approx(14 * forward / 1e6)
    assert measured.times_floor == pytest.approx(4.0 / measured.floor_seconds)
    adapters = make_measurement(case.replace(adapters=True), total_tokens=13)
    assert adapters.floor_seconds == pytest.approx((2 + 2 * 4) * forward / 1e6)


def test_seconds_are_those_of_the_rate(make_measurement: Make) -> None:
    """Prevents CPU seconds over a GPU's rate: a process that waits for a GPU uses none."""
    assert make_measurement().seconds == 4.0
    on_gpu = make_measurement(Case("x", device="cuda"))
    assert on_gpu.seconds == 6.0
    assert on_gpu.phase_seconds("update") == 4.0


def test_one_slow_iteration_does_not_count(make_measurement: Make) -> None:
    """Prevents a neighbour's burst from becoming our number."""
    laps = [{"rest": (seconds, seconds)} for seconds in (1.0, 2.0, 90.0)]
    assert make_measurement(laps=laps).cpu_seconds == 2.0


@pytest.mark.parametrize("count", ["answer_tokens", "optimizer_steps"])
def test_less_work_than_the_case_asks_for_is_refused(make_measurement: Make, count: str) -> None:
    """Prevents a trainer that looks fast because its answers ended early."""
    make_measurement().check()
    done = getattr(make_measurement(), count) - 1
    with pytest.raises(ValueError, match=f"tiny: {done} {count}, but the case asks for {done + 1}"):
        make_measurement(**{count: done}).check()


def test_different_work_is_not_compared(make_measurement: Make) -> None:
    """Prevents a ratio of two trainers that did not read the same prompts, or the same model."""
    ours = Case("ours", num_epochs=1)
    theirs = ours.replace(name="theirs", side="trl", micro_batch=4)
    check_same_work(make_measurement(ours), make_measurement(theirs))
    with pytest.raises(ValueError, match="total_tokens, theirs"):
        check_same_work(make_measurement(ours), make_measurement(theirs, total_tokens=1))
    with pytest.raises(ValueError, match="body_weights, theirs"):
        check_same_work(make_measurement(ours), make_measurement(theirs, body_weights=1))
    with pytest.raises(ValueError, match="different work"):
        check_same_work(make_measurement(ours), make_measurement(theirs.replace(bf16=True)))


def test_throughput_is_compared_where_a_token_costs_the_same_work(make_measurement: Make) -> None:
    """Prevents tokens per second of two epochs beside those of one, or of another number format."""
    team = Case("team", num_agents=2, bf16=True)
    group = team.replace(num_agents=1, algorithm="grpo", side="trl", num_generations=8)
    check_same_sampling(make_measurement(team), make_measurement(group))
    for other in (group.replace(num_epochs=1), group.replace(bf16=False)):
        with pytest.raises(ValueError, match="other work per token"):
            check_same_sampling(make_measurement(team), make_measurement(other))


def test_a_measurement_survives_its_file(make_measurement: Make, tmp_path: Path) -> None:
    """Prevents results that cannot be read back."""
    write_measurement(make_measurement(), tmp_path / "result.json")
    record = json.loads((tmp_path / "result.json").read_text())
    assert measurement_from(record) == make_measurement()
