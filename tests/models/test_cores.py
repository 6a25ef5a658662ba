"""Pieces side by side, in order, each on cores of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from threading import Barrier

import pytest
import torch
from torch import Tensor

from cory.models.cpu import side_by_side

SECONDS = 20
"""Long enough for the other worker to come, on a machine however busy."""


@pytest.fixture
def four_cores() -> Iterator[None]:
    """A process that may use four cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize(("pieces", "cores_each"), [(2, 2), (3, 1), (9, 1)])
def test_pieces_share_the_cores(pieces: int, cores_each: int) -> None:
    """Prevents one piece after the other, more threads than cores, and a mixed-up order."""
    together = Barrier(min(pieces, 3))

    def work(piece: int) -> tuple[int, int]:
        together.wait(SECONDS)
        return piece, torch.get_num_threads()

    expected = [(piece, cores_each) for piece in range(pieces)]
    assert list(side_by_side(work, range(pieces))) == expected
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_cores")
def test_one_piece_has_all_cores() -> None:
    """Prevents a thread for nothing."""
    assert list(side_by_side(lambda _: torch.get_num_threads(), ["piece"])) == [4]


@pytest.mark.usefixtures("four_cores")
def test_results_are_held_no_longer_than_needed() -> None:
    """Prevents as many gradients in memory as there are micro-batches."""
    seen: list[weakref.ref[Tensor]] = []
    for result in side_by_side(lambda _: torch.ones(2), range(20)):
        assert sum(earlier() is not None for earlier in seen[:-1]) == 0
        seen.append(weakref.ref(result))
    assert len(seen) == 20


@pytest.mark.usefixtures("four_cores")
def test_an_error_ends_the_work() -> None:
    """Prevents a failure that is lost, or told only after all other pieces."""
    begun: list[int] = []

    def work(piece: int) -> None:
        begun.append(piece)
        if piece == 0:
            raise MemoryError(f"at {piece}")
        time.sleep(0.01)

    with pytest.raises(MemoryError, match="at 0"):
        list(side_by_side(work, range(10_000)))
    assert len(begun) < 10_000
    assert torch.get_num_threads() == 4
    assert list(side_by_side(str, range(5))) == list("01234")


FORK = """
import os, torch
from cory.models.cpu import side_by_side
torch.set_num_threads(2)
assert list(side_by_side(str, range(3))) == ["0", "1", "2"]
child = os.fork()
done = list(side_by_side(str, range(3))) == ["0", "1", "2"]
if child == 0:
    os._exit(0 if done else 1)
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    """Prevents a child that waits for its parent's threads for ever."""
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)
