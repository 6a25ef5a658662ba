"""`benchmarks.meter`: no second is lost, and none is counted twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
import torch

from benchmarks.meter import Meter, peak_bytes


@pytest.fixture
def meter() -> Iterator[Meter]:
    """A meter whose clocks advance by (1, 10) whenever they are read."""
    ticks = count()
    with closing(Meter(read=lambda: ((tick := next(ticks)) * 1.0, tick * 10.0))) as meter:
        yield meter


def test_a_moment_belongs_to_the_innermost_phase(meter: Meter) -> None:
    """Prevents a reward that counts as scoring too, because it is computed in the rollout."""
    with meter.phase("score"):
        meter.timed(lambda: None, "reward")()
    meter.lap()
    # Reads: start 0, score 1, reward 2, back in score 3, back in rest 4, end of the lap 5.
    assert meter.laps == [{"rest": (2.0, 20.0), "score": (2.0, 20.0), "reward": (1.0, 10.0)}]


def test_a_lap_begins_where_the_last_one_ended(meter: Meter) -> None:
    """Prevents measuring the rate of products at the expense of the next iteration."""
    meter.lap()
    meter.start()
    meter.lap()
    assert meter.laps[1] == {"rest": (1.0, 10.0)}


def test_a_phase_ends_when_its_function_fails(meter: Meter) -> None:
    """Prevents one exception from moving the rest of the lap into its phase."""
    with pytest.raises(ZeroDivisionError):
        meter.timed(lambda: 1 / 0, "reward")()
    meter.lap()
    assert meter.laps[0]["reward"] == (1.0, 10.0)


def test_a_watched_method_still_works_and_keeps_its_name(meter: Meter) -> None:
    """Prevents a benchmark of something else than the library: results pass through."""
    text = type("Text", (), {"join": lambda self, *words: "-".join(words)})()
    meter.watch(text, "join", "rest")
    assert text.join("a", "b") == "a-b"


def test_steps_of_every_optimizer_are_counted() -> None:
    """Prevents a comparison with a trainer that skipped updates."""
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    with closing(Meter()) as meter:
        torch.optim.AdamW([weight]).step()
        torch.optim.SGD([weight]).step()
    torch.optim.SGD([weight]).step()
    assert meter.optimizer_steps == 2


@pytest.mark.slow
def test_peak_memory_is_the_process_s_own() -> None:
    """Prevents numbers that a large parent process hands down, as getrusage does on Linux."""
    held = torch.ones(2**26)
    program = "import resource\nfrom benchmarks.meter import peak_bytes\nprint(peak_bytes())"
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert held.numel() * 4 < peak_bytes() < 2**37
    assert 2**20 < int(child.stdout) < peak_bytes()
