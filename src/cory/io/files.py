"""Files that are there as a whole or not at all, and one clear error where a disk refuses them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from cory.io.errors import CoryRuntimeError


class OutputError(CoryRuntimeError):
    """The disk is full, or cannot be written."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context in which something is written to `path`.

    Raises:
        OutputError: the operating system refused it.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        free = shutil.disk_usage(_existing(path)).free
        raise OutputError(
            f"{path} could not be written: {error}. {free / 2**20:,.1f} MiB are free there. What "
            "was saved before is intact: make room or make it writable, then go on with --resume"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context that writes a file under another name, which takes the place of `path` at its end.

    Whoever reads `path` meanwhile, or after a crash, finds the old file or the new one.

    Raises:
        OutputError: the operating system refused it; the old file is still there.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            yield partial
            flush(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text file as a whole.

    Raises:
        OutputError: the operating system refused it; the old file is still there.
    """
    with replacing(path) as partial:
        partial.write_text(text)


def flush(path: Path) -> None:
    """Bring a file, or the names in a directory, from memory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_unwritable(directory: Path) -> None:
    """Check, without writing anything, that a directory can be made or written.

    Raises:
        ValueError: it cannot.
    """
    existing = _existing(directory)
    if not existing.is_dir():
        raise ValueError(
            f"output_dir={str(directory)!r}: {existing} is a file, not a directory; choose another "
            "output_dir"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(
            f"output_dir={str(directory)!r}: {existing} cannot be written (read-only, or not "
            "permitted); choose another output_dir"
        )


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())
