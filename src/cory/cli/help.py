"""How settings look in the help of a command: their kinds, and what stands for a value."""

from __future__ import annotations

import argparse
import textwrap
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from cory.config import CORYConfig

TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
KINDS: dict[Any, str] = {int: "N", float: "X"}
HINTS = get_type_hints(CORYConfig)
LIST_ITEMS = {
    name: get_args(part)[0]
    for name, hint in HINTS.items()
    for part in (hint, *get_args(hint))
    if get_origin(part) is list
}
"""What a setting lists, if it may be a list: `float` for `float | list[float]`."""
LONE_ITEMS = {
    name: (int, float) if item is float else item
    for name, item in LIST_ITEMS.items()
    if item not in get_args(HINTS[name])
}
"""What stands for a list of one, where a setting must be a list."""


def metavar(name: str) -> str:
    """What to write for a value in the help: its choices, or what kind of thing it is."""
    hint = HINTS.get(name, str)
    choices = [
        text
        for part in (hint, *get_args(hint))
        if get_origin(part) is Literal
        for text in get_args(part)
    ]
    if choices:
        return f"{{{','.join(choices)}}}"
    if name in LIST_ITEMS:
        return "A B …"
    return KINDS.get(get_args(hint)[0] if get_args(hint) else hint, "TEXT")


def describe(hint: Any) -> str:
    """What values a type takes, in words.

    >>> describe(int | None), describe(float | list[float])
    ('a whole number or null', 'a number or a list')
    """
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is list:
        return "a list"
    if get_origin(hint) is dict:
        return "a mapping"
    if hint is NoneType:
        return "null"
    return TYPE_NAMES.get(hint) or " or ".join(describe(part) for part in get_args(hint))


class PlainParser(argparse.ArgumentParser):
    """The parser of a command without settings; what is wrong is said in one line."""

    def __init__(self, command: str, **about: Any) -> None:
        super().__init__(command, allow_abbrev=False, **about)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")


class HelpFormatter(argparse.HelpFormatter):
    """Names and values of options without the type expressions that jsonargparse adds."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        # A name such as cory-no-transfer must not be cut at a hyphen.
        return textwrap.fill(
            " ".join(text.split()),
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = [name for name in action.option_strings if not name.endswith("+")]
        if not names:
            return super()._format_action_invocation(action)
        # jsonargparse keeps the type of an option under a name of its own.
        own = KINDS.get(getattr(action, "_typehint", action.type), "TEXT")
        kind = metavar(action.dest) if action.dest in HINTS else own
        value = "" if action.nargs == 0 else self._format_args(action, kind)
        return f"{', '.join(names)} {value}".rstrip()
