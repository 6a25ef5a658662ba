"""Files written whole or not at all, with locks and safe names; errors name the file."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from cory.io.errors import CoryRuntimeError

Value = TypeVar("Value")


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
            "was saved before is intact: make room or make it writable, then repeat the command (a "
            "training with --resume)"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context that writes a file under another name, which takes the place of `path` at its end.

    Whoever reads `path` meanwhile, or after a crash, finds the old file or the new one. A link in
    its place is replaced; what it leads to stays as it is.

    Raises:
        OutputError: the operating system refused it; the old file is still there.
        ValueError: a directory, a device or a pipe is in its place.
    """
    is_file(path)
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        # It may be a link, too.
        partial.unlink(missing_ok=True)
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
        partial.write_text(text, encoding="utf-8")


def is_file(path: Path) -> bool:
    """Whether a file is there; False: nothing is.

    Raises:
        ValueError: something else is, such as a pipe, from which reading may never end.
    """
    if not path.is_file() and path.exists():
        kind = "a directory" if path.is_dir() else "a pipe or a device"
        raise ValueError(f"{path} is {kind}: it must be a file")
    return path.is_file()


def refuse_unwritable_file(path: Path) -> None:
    """Check, before work goes into what will be its text, that a file can be made or replaced.

    Raises:
        ValueError: it cannot.
    """
    is_file(path)
    existing = _existing(path.parent)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: {existing} is no directory that can be")


def flush(path: Path) -> None:
    """Bring a file, or the names in a directory, from memory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_links(directory: Path, *names: str) -> None:
    """Check that no file would be written to another place than it seems to be.

    Args:
        directory: that cory writes into. It may be reached by a link itself.
        names: of what it would write there; none: whatever the directory holds.

    Raises:
        ValueError: one of them is a link.
    """
    paths = [directory / name for name in names] or list(directory.glob("*"))
    if links := [path for path in paths if path.is_symlink()]:
        raise ValueError(
            f"{links[0]} is a link, to {str(links[0].readlink())!r:.300}: cory writes through no "
            "link inside such a directory, so remove it or move the whole directory"
        )


def refuse_unwritable(directory: Path, option: str = "output_dir") -> None:
    """Check, without writing anything, that a directory can be made or written.

    The `option` named it.

    Raises:
        ValueError: it cannot, or links in it lead elsewhere.
    """
    refuse_links(directory)
    existing = _existing(directory)
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return
    fault = "cannot be written (read-only, or not permitted)"
    if not existing.is_dir():
        fault = "is a file, not a directory"
    raise ValueError(f"{option}={str(directory)!r}: {existing} {fault}; choose another {option}")


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


LOCK = ".lock"


@contextmanager
def alone_in(directory: Path, command: str) -> Iterator[None]:
    """Keep other processes out of a directory, which is made if it is missing.

    The operating system drops the lock when the process ends, however it ends: the file that stays
    behind locks nothing.

    Raises:
        ValueError: another process, which the message calls `command`, is at work there, or links
            in it lead elsewhere.
        OutputError: the directory cannot be written.
    """
    refuse_links(directory)
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


def is_taken(directory: Path) -> bool:
    """Whether another process works in a directory now."""
    try:
        refuse_taken(directory, "")
    except ValueError:
        return True
    return False


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Context that writes a new directory under another name, which becomes `path` at its end.

    Raises:
        OutputError: the operating system refused it; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            for written in (*partial.rglob("*"), partial):
                flush(written)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


MAX_LENGTH = 100
"""File systems take 255 bytes; letters have up to four, and endings are added."""


def check_folder_name(name: str, what: str) -> None:
    """Refuse a name that is not that of one folder, whatever system it is made on.

    Raises:
        ValueError: with the rule.
    """
    if not re.fullmatch(r"\w(?:[\w +=.,()-]*[\w+)])?", name) or len(name.encode()) > MAX_LENGTH:
        raise ValueError(
            f"{what} {name!r:.300} becomes a folder: use letters and digits, between them also "
            f". _ + - = , ( ) and spaces, in all at most {MAX_LENGTH} bytes"
        )


def path_inside(directory: Path, name: str) -> Path:
    """The path of that name, relative to a directory and inside of it.

    Raises:
        ValueError: it leads out, as `../x`, an absolute path, or a link might.
    """
    path = directory / name
    if "\0" in name or not path.resolve().is_relative_to(directory.resolve()):
        raise ValueError(f"{name!r:.300} leads out of {directory}: it must be a path inside of it")
    return path


CLOSE = 0.75
"""Share of the letters of two names that must be the same, in order, for one to be a slip of the
other. `seed` in `deepspeed` is none."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`: did you mean …?` for an error message, or nothing if no known name is a slip away."""
    choices = list(known)
    matches = get_close_matches(name, choices, 1, CLOSE) or get_close_matches(
        name.replace("-", "_"), choices, 1, CLOSE
    )
    return f": did you mean {matches[0]}?" if matches else ""


def look_up(what: str, name: Any, known: Mapping[str, Value]) -> Value:
    """What a name stands for.

    Raises:
        ValueError: `no WHAT 'name'`, with the known name that is near, and all there are.
    """
    if not isinstance(name, str) or name not in known:
        fix = did_you_mean(str(name), known)
        raise ValueError(f"no {what} {name!r:.300}{fix}; there is {', '.join(known)}")
    return known[name]
