"""Names: which may become files or folders, and which known one is nearest to a misspelt one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

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


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is nearest to a misspelt one; None if none is close."""
    matches = get_close_matches(name.replace("-", "_"), list(known), n=1)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`: did you mean …?` for an error message, or nothing if no known name is close."""
    match = nearest(name, known)
    return "" if match is None else f": did you mean {match}?"
