"""One process per directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cory.io.files import writing

LOCK = ".lock"


@contextmanager
def alone_in(directory: Path, command: str) -> Iterator[None]:
    """Keep other processes out of a directory, which is made if it is missing.

    The operating system drops the lock when the process ends, however it ends: the file that stays
    behind locks nothing.

    Args:
        directory: where to work alone.
        command: what works there, for the message.

    Raises:
        ValueError: another process is at work there.
        OutputError: the directory cannot be written.
    """
    lock = FileLock(directory / LOCK, timeout=0)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"another `{command}` works in {directory}: wait for it, or choose another "
                "output_dir"
            ) from None
    try:
        yield
    finally:
        lock.release()


def refuse_taken(directory: Path, command: str) -> None:
    """Check that nobody works in a directory, before time goes into preparing to.

    Raises:
        ValueError: another process does.
    """
    if (directory / LOCK).exists():
        with alone_in(directory, command):
            pass
