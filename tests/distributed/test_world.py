"""Parts of rows and what is built on exchanges; tests/test_together.py has real processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from torch import nn

from cory.cli import main
from cory.config import CORYConfig
from cory.distributed.fsdp import (
    full_state_dict,
    full_tensor,
    shard_like,
    unsharded,
    unsharded_heads,
)
from cory.distributed.world import (
    SINGLE,
    LostProcessError,
    OtherProcessError,
    OtherProcessRuntimeError,
    World,
    _buckets,
)
from cory.io.errors import CoryRuntimeError
from cory.io.files import OutputError
from cory.training.launch import check_launch


class Heard(World):
    """A process that hears made-up answers."""

    def __init__(self, rank: int, size: int, heard: Sequence[Any] = ()) -> None:
        self.rank, self.size, self.heard = rank, size, list(heard)

    def gather(self, own: Any) -> list[Any]:
        return [*self.heard[: self.rank], own, *self.heard[self.rank :]]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 20])
def test_parts_are_all_rows_once_in_order(size: int, count: int) -> None:
    """Prevents rows that nobody does, or that count twice, whatever does not divide what."""
    everything = list(range(count))
    parts = [everything[Heard(rank, size).part(count)] for rank in range(size)]
    assert all(parts), "a process without rows has nothing to take part with"
    assert [row for part in parts for row in part][:count] == everything
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_part_is_joined_with_the_others() -> None:
    """Prevents a world that drops, doubles or reorders what others have done."""
    assert Heard(1, 3, [["a", "b"], ["d"]]).join(["c"], 4) == ["a", "b", "c", "d"]
    assert Heard(2, 3, [["a"], ["b"]]).join(["b"], 2) == ["a", "b"]
    own = torch.rand(2, 3)
    assert torch.equal(SINGLE.join_rows(own, 2, 5), torch.cat([own, torch.zeros(2, 2)], 1))


def test_every_process_does_as_many_passes() -> None:
    """Prevents a process that waits, in a pass through shards, for one that has none left."""
    pieces = [torch.tensor([0, 2]), torch.tensor([1])]
    passes = Heard(0, 2, [4]).padded_microbatches(pieces, 5)
    assert [(rows.tolist(), counts) for rows, counts in passes] == [
        ([0, 2], True),
        ([1], True),
        ([1], False),
        ([1], False),
    ]
    assert [counts for _, counts in Heard(1, 2, [2]).padded_microbatches(pieces, 1)] == [
        False,
        False,
    ]
    assert [counts for _, counts in SINGLE.padded_microbatches(pieces, 3)] == [True, True]


def test_a_failure_elsewhere_stops_this_process_and_its_own_is_kept() -> None:
    """Prevents a process from going on alone, and a message that hides its own failure.

    Its exit status is that of the failure: 2 for a mistake, 3 for a full disk.
    """

    def said(error: Exception) -> Any:
        """What a process says that fails so."""
        words: list[Any] = []

        class Told(World):
            def gather(self, own: Any) -> list[Any]:
                words.append(own)
                return [own]

        with suppress(type(error)), Told().fail_together():
            raise error
        return words[0]

    mistake, fault = said(KeyError("gold")), said(OutputError("the disk is full"))
    for heard, kind, message in (
        (mistake, OtherProcessError, r"process 1 of 2 failed, .*: KeyError: 'gold'"),
        (fault, OtherProcessRuntimeError, r"process 1 of 2 failed, .*: OutputError: the disk"),
    ):
        with pytest.raises(kind, match=message), Heard(0, 2, [heard]).fail_together():
            pass
    assert issubclass(OtherProcessRuntimeError, CoryRuntimeError)
    assert not issubclass(OtherProcessError, CoryRuntimeError)
    with pytest.raises(KeyError), Heard(0, 2, [said(KeyError("silver"))]).fail_together():
        raise KeyError("gold")
    with SINGLE.fail_together():
        pass


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), LostProcessError(), OtherProcessError(), OtherProcessRuntimeError()],
)
def test_who_is_interrupted_waits_for_nobody(error: BaseException) -> None:
    """Prevents Ctrl-C from waiting for processes that have been interrupted elsewhere."""

    class Deaf(World):
        def gather(self, own: Any) -> list[Any]:
            raise AssertionError("it waited")

    with pytest.raises(type(error)), Deaf().fail_together():
        raise error


def test_gradients_travel_in_bounded_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a second copy of all gradients, a mix of formats, and a tensor that is left out."""
    monkeypatch.setattr("cory.distributed.world.BYTES_PER_MESSAGE", 16)
    half = torch.zeros(2, dtype=torch.bfloat16)
    tensors = [torch.zeros(2), torch.zeros(2), torch.zeros(9), half, torch.zeros(1)]
    assert [[len(t) for t in bucket] for bucket in _buckets(tensors)] == [[2, 2], [9], [2], [1]]
    assert list(_buckets([])) == []


def test_what_is_not_sharded_is_left_alone() -> None:
    """Prevents a special case, and a copy, where one process holds everything."""
    model = nn.Linear(2, 3)
    with unsharded(model), unsharded_heads(model):
        assert full_tensor(model.weight) is model.weight
    assert shard_like(model.weight, model.bias) is model.weight
    state = full_state_dict(model)
    assert state["weight"].data_ptr() == model.weight.data_ptr()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_peft": True}, "adapters share one frozen base"),
        ({"evaluate_merged": True}, "cory eval RUN --evaluate_merged"),
    ],
)
def test_what_cannot_be_sharded_is_refused(settings: dict[str, Any], message: str) -> None:
    """Prevents a setting that does nothing, or fails late."""
    with pytest.raises(ValueError, match=message):
        CORYConfig(shard_weights=True, **settings)


def test_commands_that_do_not_share_their_work_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents eight comparisons at once in one directory."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(SystemExit):
        main(["compare", "--preset", "pocket"])
    assert "`cory compare` works in one process" in capsys.readouterr().err


def test_launches_that_cannot_work_are_refused() -> None:
    """Prevents processes that train side by side into one directory, and an ignored engine."""
    check_launch(DistributedType.NO, 1, 1)
    check_launch(DistributedType.MULTI_GPU, 8, 8)
    for kind in (DistributedType.DEEPSPEED, DistributedType.FSDP):
        with pytest.raises(ValueError, match="--shard_weights"):
            check_launch(kind, 8, 8)
    with pytest.raises(ValueError, match="2 processes were started"):
        check_launch(DistributedType.NO, 1, 2)
