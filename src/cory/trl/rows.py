"""One row of the table: what becomes of a field of TRL or of `TrainingArguments`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cory.io.objects import shown

Kind = Literal["setting", "used", "no-op", "refused"]
"""`setting`: becomes settings of cory. `used`: `cory.trl` acts on it itself. `no-op`: has no effect
on results, and a line says so. `refused`: an error says why and what to do."""


@dataclass(frozen=True)
class Row:
    """What becomes of one field.

    `words` is for the documentation, and in `no-op` and `refused` rows for the message, too, where
    it stands behind `NAME=VALUE: `. `fine` are values besides the default that ask for nothing.
    """

    kind: Kind
    words: str
    settings: Callable[[Any], Mapping[str, Any]] | None = None
    fine: tuple[Any, ...] = ()

    def message(self, name: str, value: Any) -> str:
        """The line of a value that is a no-op or refused."""
        return f"{name}={shown(getattr(value, 'value', value))}: {self.words}"


def same(name: str) -> Row:
    """The setting of the same name."""
    return Row("setting", "the same name", lambda value: {name: value})


def renamed(name: str) -> Row:
    """A setting of another name; None leaves cory's default."""
    return Row("setting", f"`{name}`", lambda value: {} if value is None else {name: value})


def converted(words: str, settings: Callable[[Any], Mapping[str, Any]]) -> Row:
    """Settings that a function makes of the value; its ValueError is a problem of the call."""
    return Row("setting", words, settings)


def used(words: str) -> Row:
    """A field that `cory.trl` acts on itself."""
    return Row("used", words)


def no_op(words: str, *fine: Any) -> Row:
    """A field without an effect on results; another value than the default gets a line."""
    return Row("no-op", words, fine=fine)


def refused(words: str, *fine: Any) -> Row:
    """A field whose values, but for the default and those that are fine, are refused."""
    return Row("refused", words, fine=fine)


def is_asked_for(value: Any, default: Any, fine: tuple[Any, ...]) -> bool:
    """Whether a value asks for more than the default does; neither None nor {} does.

    >>> is_asked_for(0.5, 1.0, ()), is_asked_for({}, None, ()), is_asked_for(0.0, None, (0.0,))
    (True, False, False)
    """
    value = getattr(value, "value", value)  # of an enumeration
    if value is None or value in ({}, [], ""):
        return False
    return not any(isinstance(value, type(one)) and value == one for one in (default, *fine))
