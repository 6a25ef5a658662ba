"""Check the values of all settings: their types, their ranges, and that they fit together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from itertools import chain
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cory.config.fields import facts_of
from cory.config.names import value_fix
from cory.config.rules import RULES, Rule
from cory.io.objects import shown


def validate(args: Any) -> None:
    """Refuse values that break a rule.

    Raises:
        ValueError: the message lists every broken rule with the setting, its value and the fix.
    """
    values = {name: getattr(args, name) for name in _type_hints(type(args))}
    broken = {name: found for name in values if (found := own_problems(type(args), name, values))}
    sound = _SoundSettings(args, broken)
    refuse_problems([*chain.from_iterable(broken.values()), *map(sound.judge, RULES)])


class SettingsError(ValueError):
    """All `problems` of some settings: one is the message, several are listed, one a line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = "\n".join(f"- {problem}" for problem in problems)
        is_one = len(problems) == 1
        super().__init__(
            problems[0] if is_one else f"{len(problems)} problems with the settings:\n{lines}"
        )


def refuse_problems(found: Iterable[str | None]) -> None:
    """Raise an error with all problems, unless there are none; None is no problem.

    Raises:
        SettingsError: there are some.
    """
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise SettingsError(problems)


def own_problems(kind: type, name: str, values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the value of one setting of a dataclass, whatever the others are."""
    value, hint = values[name], _type_hints(kind)[name]
    if not _fits(value, hint):
        return [_wrong_type(name, value, hint)]
    numbers = value if isinstance(value, list) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        return [f"{name}={value!s:.300} must be finite"]
    allowed = _ranges(kind)[name]
    return [] if allowed is None or value is None else allowed.problems(name, value)


def _wrong_type(name: str, value: Any, hint: Any) -> str:
    if get_origin(hint) is Literal:
        choices = ", ".join(get_args(hint))
        return f"{name}={shown(value)} is not one of {choices}{value_fix(name, value)}"
    if any(get_origin(part) is dict for part in get_args(hint)):
        return (
            f"{name}={shown(value)} must be a mapping from names to texts, numbers, true, false, "
            "null, or lists and mappings of these"
        )
    kind = str(hint) if isinstance(hint, UnionType) else _type_in_words(hint)
    fix = " (YAML takes 1e-5 for a text: write 1.0e-5)" if "float" in kind else ""
    return f"{name}={shown(value)} must be {kind}, not {type(value).__name__}{fix}"


def _type_in_words(hint: Any) -> str:
    """What a value may be.

    >>> _type_in_words(bool | Literal["auto"])
    'bool or auto'
    """
    if get_origin(hint) is Literal:
        return ", ".join(get_args(hint))
    if get_origin(hint) is Union:
        return " or ".join(map(_type_in_words, get_args(hint)))
    return getattr(hint, "__name__", str(hint))


def _fits(value: Any, hint: Any) -> bool:
    options = get_args(hint)
    if get_origin(hint) is Literal:
        return value in options
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, options[0]) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(map(_fits, _items(value), options * len(value)))
    if hint is Any:
        return _is_plain(value)
    if options:
        return any(_fits(value, option) for option in options)
    if hint in (int, float):
        numbers = (int, float) if hint is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, hint)


def _items(mapping: dict[Any, Any]) -> list[Any]:
    """Each key, followed by its value."""
    return list(chain.from_iterable(mapping.items()))


def _is_plain(value: Any) -> bool:
    """Whether a settings file can hold a value: text, number, truth value, None, lists and maps."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool))


@cache
def _type_hints(kind: type) -> dict[str, Any]:
    """Resolving these takes longer than all checks."""
    return get_type_hints(kind)


@cache
def _ranges(kind: type) -> dict[str, Any]:
    return {field.name: facts_of(field).range for field in fields(kind)}


class _UnsoundError(Exception):
    """A rule reads a setting whose own value is refused already."""


class _SoundSettings:
    """The settings as rules see them: only those whose own value is sound can be read."""

    def __init__(self, args: Any, broken: dict[str, list[str]]) -> None:
        self._args = args
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        if name in self._broken:
            raise _UnsoundError
        return getattr(self._args, name)

    def judge(self, rule: Rule) -> str | None:
        """The message of a rule, if it can be judged and is broken."""
        try:
            return rule(self)
        except _UnsoundError:
            return None
