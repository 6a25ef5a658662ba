"""Checksums of all files of a directory: written beside them, and compared."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUMS = "sha256sums.txt"
"""Written in the format of `sha256sum`, so `sha256sum --check` verifies it, too."""

CARD = "README.md"
"""Describes a model and no part of it: people change it, so it has no checksum."""


def write_sums(directory: Path) -> None:
    """Write the checksums of all files under a directory, but model cards, into it."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != CARD)
    with ThreadPoolExecutor() as executor:
        digests = list(executor.map(file_digest, paths))
    lines = [
        f"{digest}  {path.relative_to(directory).as_posix()}\n"
        for path, digest in zip(paths, digests, strict=True)
    ]
    (directory / SUMS).write_text("".join(lines))


def damage(directory: Path, needed: tuple[str, ...]) -> str | None:
    """What is wrong with a directory, in words; None if every file is as it was written.

    Files that have no checksum are not looked at. A directory without any checksums, which an
    older version wrote, passes if the needed files are there.

    Args:
        directory: that `write_sums` was called on.
        needed: files that must be there and, if there are checksums, have one.
    """
    for name in needed:
        if not (directory / name).is_file():
            return f"{name} is missing"
    if not (directory / SUMS).is_file():
        return None
    lines = (directory / SUMS).read_text(errors="replace").splitlines()
    expected = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if lost := [name for name in needed if name not in expected]:
        return f"{SUMS} does not list {lost[0]}"
    paths = {name: directory / name for name in expected}
    if absent := [name for name, path in paths.items() if not path.is_file()]:
        return f"{absent[0]} is missing"
    with ThreadPoolExecutor() as executor:
        found = dict(zip(paths, executor.map(file_digest, paths.values()), strict=True))
    if changed := [name for name, digest in expected.items() if found[name] != digest]:
        return f"{changed[0]} is not what was written: its checksum is another"
    return None


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
