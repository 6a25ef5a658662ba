"""What all processes of a run must agree on before one of them acts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cory.distributed.world import World
from cory.io.locks import alone_in
from cory.io.signals import Interruption, Stopped


@contextmanager
def first_alone_in(directory: Path, command: str, world: World) -> Iterator[None]:
    """`locks.alone_in` by the first process, for all.

    Raises:
        ValueError: another run is at work there.
        OutputError: the directory cannot be written.
    """
    with ExitStack() as stack:
        with world.fail_together():
            if world.is_main:
                stack.enter_context(alone_in(directory, command))
        yield


def reason_to_stop(interruption: Interruption, world: World) -> Stopped | None:
    """What all raise where one has been asked to end; None: nobody has.

    A signal may reach one process alone.
    """
    asked = [number for number in world.gather(interruption.requested) if number]
    return Stopped(asked[0]) if asked else None
