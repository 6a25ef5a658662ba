"""Every setting as an option, with its docstring as help; words and YAML files to settings."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

import docstring_parser
from jsonargparse import ArgumentParser

from cory.cli.help import HINTS, LIST_ITEMS, HelpFormatter
from cory.config import (
    AlgorithmConfig,
    CORYConfig,
    ExtensionConfig,
    FaultConfig,
    ModelConfig,
    ProcessConfig,
    RunConfig,
    SamplingConfig,
    TaskConfig,
    TeamConfig,
)
from cory.config.presets import preset_settings
from cory.io.yaml import read_yaml

PARTS = {
    "task": TaskConfig,
    "model": ModelConfig,
    "team": TeamConfig,
    "algorithm": AlgorithmConfig,
    "run": RunConfig,
    "several processes": ProcessConfig,
    "answers from vLLM": SamplingConfig,
    "beyond the paper": ExtensionConfig,
    "faults": FaultConfig,
}
TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def make_parser(usage: str, description: str) -> ArgumentParser:
    """A parser of all settings; those that are not given stay out of its result."""
    parser = ArgumentParser(
        usage=usage,
        description=description,
        formatter_class=HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; options win")
    parser.add_argument(
        "--traceback",
        action="store_true",
        help="show where an error comes from (so does the environment's CORY_DEBUG=1)",
    )
    for title, part in PARTS.items():
        documentation = docstring_parser.parse_from_object(part)
        group = parser.add_argument_group(title, documentation.short_description)
        for parameter in documentation.params:
            _add_setting(group, parameter.arg_name, parameter.description or "")
    return parser


# Making a parser takes longer than reading a file.
_settings_parser = cache(partial(make_parser, "", ""))


def _add_setting(group: Any, name: str, description: str) -> None:
    default = _text(getattr(CORYConfig, name))
    is_switch = HINTS[name] is bool
    group.add_argument(
        f"--{name}",
        type=HINTS[name],
        default=argparse.SUPPRESS,
        help=f"{' '.join(description.split())} [{default}]",
        **({"nargs": "?", "const": True} if is_switch else {}),
    )


def _text(value: Any) -> str:
    """A value as it would be typed."""
    return value if isinstance(value, str) and "\n" not in value else json.dumps(value)


def parse(parser: ArgumentParser, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the words of a command into settings that were given and options of its own.

    Settings of `--config` are included; those given as options win.

    Raises:
        ValueError: an option is unknown, or a value has the wrong type.
    """
    given, own = parse_words(parser, words)
    from_file = read_settings(Path(own["config"])) if own["config"] else {}
    return {**from_file, **given}, own


def parse_words(
    parser: ArgumentParser, words: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`parse` without the settings of `--config`.

    Raises:
        ValueError: an option is unknown, or a value has the wrong type.
    """
    words = gather_lists(words)
    _refuse_unknown_options(parser, words)
    try:
        namespace = vars(parser.parse_args(words))
    except argparse.ArgumentError as error:
        raise_readable(error, "--")
    given = {name: value for name, value in namespace.items() if name in HINTS}
    return given, {name: value for name, value in namespace.items() if name not in HINTS}


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, with the types of `CORYConfig`.

    `preset: NAME` stands for the settings of that name; other lines win over it.

    Raises:
        ValueError: there is no such file, or it holds something else than settings.
    """
    return typed_settings(_expand_preset(read_mapping(path), path), str(path))


def read_mapping(path: Path) -> Mapping[Any, Any]:
    """What a YAML file of `key: value` lines holds.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise ValueError(f"--config {path}: no such file")
    mapping = read_yaml(path) or {}
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{path} must hold `key: value` lines, one per setting")
    return mapping


def typed_settings(settings: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Settings as YAML gives them, with the types of `CORYConfig`.

    Args:
        settings: by name.
        where: they come from, for a message.

    Raises:
        ValueError: a name is unknown, or a value has the wrong type.
    """
    for key in settings:
        if key not in HINTS:
            raise ValueError(f"{where}: unknown key {key!r}{nearest(str(key), HINTS)}")
    listed = {
        key: [value] if isinstance(value, str) and LIST_ITEMS.get(key) is str else value
        for key, value in settings.items()
    }
    try:
        read = vars(_settings_parser().parse_object(listed))
    except argparse.ArgumentError as error:
        raise_readable(error, f"{where}: ")
    return {name: read[name] for name in listed}


def _expand_preset(settings: Mapping[Any, Any], path: Path) -> dict[Any, Any]:
    others = {key: value for key, value in settings.items() if key != "preset"}
    name = settings.get("preset")
    try:
        return {**preset_settings(None if name is None else str(name)), **others}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def gather_lists(words: Sequence[str]) -> list[str]:
    """Write each setting that may be a list as one word.

    >>> gather_lists(["RUN", "--reward_funcs", "a.py:f", "b.py:g", "--seed", "3"])
    ['RUN', '--seed', '3', '--reward_funcs=["a.py:f", "b.py:g"]']
    """
    plain: list[str] = []
    lists: dict[str, list[str]] = {}
    current: str | None = None
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            (plain if current is None else lists[current]).append(word)
        elif name.removesuffix("+") in LIST_ITEMS:
            current = name.removesuffix("+")
            lists.setdefault(current, []).extend([value] if equals else [])
        else:
            current = None
            plain.append(word)
    return plain + [f"--{name}={_list_text(name, values)}" for name, values in lists.items()]


def _list_text(name: str, values: list[str]) -> str:
    if len(values) == 1 and (values[0].startswith("[") or values[0] == "null"):
        return values[0]
    if LIST_ITEMS[name] is str:
        return json.dumps(values)
    return values[0] if len(values) == 1 else f"[{', '.join(values)}]"


def _refuse_unknown_options(parser: ArgumentParser, words: Iterable[str]) -> None:
    known = [
        option.removeprefix("--") for action in parser._actions for option in action.option_strings
    ]
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and name not in known:
            raise ValueError(f"unknown option --{name}{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """`: did you mean …?` where a known name is close, else nothing."""
    matches = get_close_matches(name.replace("-", "_"), list(known), n=1)
    return f": did you mean {matches[0]}?" if matches else ""


def raise_readable(error: argparse.ArgumentError, where: str) -> NoReturn:
    """Say what was expected in the words of a user.

    Args:
        error: of the parser.
        where: what to put before the name of the setting.
    """
    message = str(error)
    name = re.search(r'Parser key "(\w+)"', message)
    value = re.search(r"(?:Got|Given) value: (.*)", message, re.DOTALL)
    if name is None or value is None or name[1] not in HINTS:
        raise ValueError(f"{message}; see --help") from error
    expected = describe(HINTS[name[1]])
    raise ValueError(f"{where}{name[1]}: {value[1]!r} is not {expected}") from error


def describe(hint: Any) -> str:
    """What values a type takes, in words.

    >>> describe(int | None), describe(float | list[float])
    ('a whole number or null', 'a number or a list')
    """
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is list:
        return "a list"
    if hint is NoneType:
        return "null"
    return TYPE_NAMES.get(hint) or " or ".join(describe(part) for part in get_args(hint))
