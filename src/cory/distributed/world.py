"""The processes of a run: who does which rows, and how all come to know the whole.

Every process walks through the same program. What is cheap is done by all of them alike, on the
same numbers: prompts, advantages, statistics, decisions. What is dear is done by rows: each process
samples, pays, scores and backpropagates its part, and all get the whole. In a world of one the part
is the whole, and an exchange is the identity.

Messages are JSON, tensors are tensors: nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Int, Num
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cory.distributed.fsdp import shard
from cory.io.errors import CoryRuntimeError

T = TypeVar("T")

BYTES_PER_MESSAGE = 2**26
"""Of gradients, at most, in one exchange: the buffer is memory."""


class OtherProcessError(ValueError):
    """Another process failed, so this one stops, too."""


class OtherProcessRuntimeError(CoryRuntimeError):
    """The same where the other could not go on, as at a full disk."""


class LostProcessError(CoryRuntimeError):
    """Another process ended without a word, or did not answer in time."""


class World:
    """A single process, of number `rank` among `size`: the identity of every exchange."""

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    # Exchanges: what every process must call, in the same order.

    def gather(self, own: T) -> list[T]:
        """What each process has, by its number; JSON values only."""
        return [own]

    def gather_tensors(self, own: Tensor) -> list[Tensor]:
        """The same for tensors of equal shape."""
        return [own]

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Overwrite the gradient of each parameter by its sum over processes."""

    def shard(self, module: nn.Module) -> None:
        """Spread a module's weights over the processes."""

    def close(self) -> None:
        """Leave the others, when all is done."""

    # What follows is built on these.

    def part(self, count: int) -> slice:
        """The rows of this process, of `count` that are to be done: neighbours, evenly spread.

        A process without rows of its own does the last one once more; `join` leaves that out.
        """
        return self._parts(count)[self.rank]

    def rows(self, count: int, device: torch.device | str = "cpu") -> Int[Tensor, " b"]:
        """`part` as row numbers."""
        return torch.arange(count, device=device)[self.part(count)]

    def join(self, own: Sequence[T], count: int) -> list[T]:
        """All rows from everybody's part; JSON values only."""
        return [row for rows in self.gather(list(own)) for row in rows][:count]

    def join_rows(
        self, own: Num[Tensor, "b t ..."], count: int, width: int
    ) -> Num[Tensor, "B T ..."]:
        """All rows from everybody's part, filled up with zeros to one width."""
        parts = self._parts(count)
        longest = max(part.stop - part.start for part in parts)
        padded = own.new_zeros(longest, width, *own.shape[2:])
        padded[: len(own), : own.shape[1]] = own
        everybody = zip(self.gather_tensors(padded), parts, strict=True)
        return torch.cat([rows[: part.stop - part.start] for rows, part in everybody])[:count]

    def padded_microbatches(
        self, pieces: Iterable[Int[Tensor, " _"]], count: int
    ) -> list[tuple[Int[Tensor, " _"], bool]]:
        """Pieces of this process's rows, filled up so that every process has as many.

        A pass through sharded weights is an exchange, so all must do the same number of them. All
        processes together do `count` rows.

        Returns:
            each piece, and whether it counts: what fills up is one row that somebody has done.
        """
        own = list(pieces)
        has_rows = self.rank < count
        missing = max(self.gather(len(own))) - len(own)
        return [(rows, has_rows) for rows in own] + [(own[-1][-1:], False)] * missing

    def broadcast_from_main(self, own: T) -> T:
        """What the first process has."""
        return self.gather(own)[0]

    @contextmanager
    def fail_together(self) -> Iterator[None]:
        """Context of work that each process does for itself: it succeeds everywhere or nowhere.

        Raises:
            OtherProcessError: it failed in another process; the message has that one's.
            OtherProcessRuntimeError: the same, where that one raised a `CoryRuntimeError`.
        """
        try:
            yield
        except (LostProcessError, OtherProcessError, OtherProcessRuntimeError):
            raise  # the others have ended, or know
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self.gather({"text": text, "is_fault": isinstance(error, CoryRuntimeError)})
            raise
        for rank, failure in enumerate(self.gather(None)):
            if failure is not None:
                kind = OtherProcessRuntimeError if failure["is_fault"] else OtherProcessError
                raise kind(f"process {rank} of {self.size} failed, so all stop: {failure['text']}")

    def _parts(self, count: int) -> list[slice]:
        """Everybody's rows.

        >>> World()._parts(5)
        [slice(0, 5, None)]
        """
        share, extra = divmod(count, self.size)
        starts = [rank * share + min(rank, extra) for rank in range(self.size + 1)]
        return [
            slice(start, stop) if start < stop else slice(count - 1, count)
            for start, stop in pairwise(starts)
        ]


SINGLE = World()


class Processes(World):
    """Several processes, in torch's default process group.

    One that waits for another gives up after `timeout` seconds.
    """

    def __init__(self, timeout: float) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self.timeout = timeout
        # What accelerators talk over takes their own tensors only.
        self.messages = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))

    def gather(self, own: T) -> list[T]:
        message = torch.frombuffer(bytearray(json.dumps(own).encode()), dtype=torch.uint8)
        lengths = [int(length) for length in self.gather_tensors(torch.tensor([len(message)]))]
        padded = message.new_zeros(max(lengths))
        padded[: len(message)] = message
        received = self.gather_tensors(padded)
        return [
            json.loads(bytes(text[:length].numpy()))
            for text, length in zip(received, lengths, strict=True)
        ]

    def gather_tensors(self, own: Tensor) -> list[Tensor]:
        received = [torch.empty_like(own) for _ in range(self.size)]
        with self._listening():
            dist.all_gather(received, own.contiguous(), group=self._group(own))
        return received

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        with self._listening():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0, group=self._group(tensor))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """See `World`. Those of sharded weights have been summed in the backward pass."""
        gradients = [
            parameter.grad
            for parameter in parameters
            if parameter.grad is not None and not isinstance(parameter.grad, DTensor)
        ]
        with self._listening():
            for bucket in _buckets(gradients):
                flat = torch.cat([gradient.flatten() for gradient in bucket])
                dist.all_reduce(flat, group=self._group(flat))
                sizes = [gradient.numel() for gradient in bucket]
                for gradient, total in zip(bucket, flat.split(sizes), strict=True):
                    gradient.copy_(total.view_as(gradient))

    def shard(self, module: nn.Module) -> None:
        shard(module, self.size)

    def close(self) -> None:
        dist.destroy_process_group()

    def _group(self, tensor: Tensor) -> Any:
        """Accelerators' tensors go through the default group, the CPU's through the messages'."""
        return self.messages if tensor.device.type == "cpu" else None

    @contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise LostProcessError(
                f"process {self.rank} of {self.size} hears nothing from another one: that has "
                f"ended, or did not answer within ddp_timeout={self.timeout:g} seconds. What that "
                "one printed says why; --resume goes on from the last checkpoint"
            ) from error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one number format, up to `BYTES_PER_MESSAGE` together."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        is_full = size + tensor.nbytes > BYTES_PER_MESSAGE
        if bucket and (is_full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
