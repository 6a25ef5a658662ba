"""JSON objects that others wrote: read with bounded work, or refused with the place they stand at.

Python's parser gives NaN, infinities, integers of any length and a RecursionError; here a number is
one that can be drawn, or None as where JSON says null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cory.io.files import is_file

MAX_LINE_BYTES = 4_000_000
"""Of one line of a file with an object per line."""
MAX_FILE_BYTES = 200_000_000
"""Of a file that is one object."""
MAX_STEP = 1_000_000_000
"""Of an iteration. More are neither trained nor drawn."""
LARGEST = 1e100
"""Beyond it, plots overflow."""


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The object that a JSON text is.

    Raises:
        ValueError: it is something else; the message begins with `where`.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deep for what cory writes") from error
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where} holds a JSON {_kind(found)}; it must be an object")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        ValueError: it cannot be read, or is larger than any file of cory.
    """
    try:
        if not is_file(path):
            raise ValueError(f"{path} cannot be read: it is missing")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ValueError(f"{path} has {size:,} bytes; cory reads up to {MAX_FILE_BYTES:,}")
        return parse_object(path.read_bytes(), str(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file by their number, from 1; a last one that was cut short is left out.

    Raises:
        ValueError: a line is longer than any that cory writes, or the file cannot be read.
    """
    try:
        is_file(path)
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise ValueError(
                        f"{path}, line {number} has more than {MAX_LINE_BYTES:,} bytes: cory "
                        "writes no such line"
                    )
                if line.endswith(b"\n"):
                    yield number, line
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def finite(value: Any, what: str) -> float | None:
    """A number, or None for null and for what no axis can show: NaN, and beyond `LARGEST`.

    Raises:
        ValueError: it is a text, a list or another thing; the message begins with `what`.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} is {shown(value)}; it must be a number or null")
    return float(value) if -LARGEST <= value <= LARGEST else None


def finite_numbers(values: Any, what: str) -> dict[str, float | None]:
    """An object of numbers, by name.

    Raises:
        ValueError: it is no object, or holds something else than numbers and null.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} is {shown(values)}; it must be an object of numbers")
    return {name: finite(value, f"{what}: {name!r:.100}") for name, value in values.items()}


def whole_number(value: Any, what: str, largest: int) -> int:
    """A whole number from 0 to `largest`.

    Raises:
        ValueError: it is none; the message begins with `what`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise ValueError(
            f"{what} is {shown(value)}; it must be a whole number from 0 to {largest:,}"
        )
    return value


def shown(value: Any) -> str:
    """A value in a message.

    >>> shown("text"), shown(10**5000)
    ("'text'", 'a number of thousands of digits')
    """
    try:
        return f"{value!r:.200}"
    except ValueError:
        return "a number of thousands of digits"


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "text", bool: "value true or false", type(None): "null"}
    return kinds.get(type(value), "number")
