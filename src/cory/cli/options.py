"""Every setting as an option, with its docstring as help; words and YAML files to settings."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import docstring_parser
from jsonargparse import ArgumentParser

from cory.cli.help import HINTS, LIST_ITEMS, LONE_ITEMS, HelpFormatter, describe
from cory.config import FIELD_NAMES, THEMES, CORYConfig
from cory.config.fields import NAME
from cory.config.names import fix, value_fix
from cory.config.presets import preset_settings
from cory.config.validation import own_problems, refuse_problems
from cory.io.files import is_file
from cory.io.yaml import read_yaml

REFUSALS = (argparse.ArgumentError, OverflowError)
"""What the parser raises for a value; the second for an integer that no float can hold."""
OWN_PATHS = ("target", "config", "reference", "output", "out")


SETTINGS_ARE_OPTIONS = "Every setting of `cory train` is an option, too; its help lists them."


def make_parser(usage: str, description: str, *, lists_settings: bool = True) -> ArgumentParser:
    """A parser of all settings; those that are not given stay out of its result.

    Args:
        usage: of the command.
        description: of the command.
        lists_settings: whether its help has the settings. Without, it says that they are options.
    """
    if not lists_settings:
        description = f"{description} {SETTINGS_ARE_OPTIONS}"
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
    for title, theme in THEMES.items():
        documentation = docstring_parser.parse_from_object(theme)
        about = documentation.short_description
        group = parser.add_argument_group(title, about) if lists_settings else parser
        for parameter in documentation.params:
            text = (parameter.description or "") if lists_settings else None
            _add_setting(group, parameter.arg_name, text)
    return parser


# Making a parser takes longer than reading a file.
_settings_parser = cache(partial(make_parser, "", ""))


def _add_setting(group: Any, name: str, description: str | None) -> None:
    """Add an option; without a description the help leaves it out."""
    default = getattr(CORYConfig, name)
    if not isinstance(default, str) or "\n" in default:
        default = json.dumps(default)
    is_switch = HINTS[name] is bool
    text = "" if description is None else f"{' '.join(description.split())} [{default}]"
    group.add_argument(
        f"--{name}",
        type=HINTS[name],
        default=argparse.SUPPRESS,
        help=text.replace("%", "%%") or argparse.SUPPRESS,
        **({"nargs": "?", "const": True} if is_switch else {}),
    )


def parse(parser: ArgumentParser, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the words of a command: the settings that were given, and its own options.

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
    except REFUSALS as error:
        # The parser stops at the first value; by themselves, all that are wrong are found.
        parse_alone = _settings_parser().parse_args
        refuse_problems(_faults(parse_alone, _given(words), "--"))
        raise ValueError(readable(error, "--")) from error
    given = {name: value for name, value in namespace.items() if name in HINTS}
    own = {name: value for name, value in namespace.items() if name not in HINTS}
    refuse_wrong_paths(own)
    return given, own


def refuse_wrong_paths(options: Mapping[str, Any]) -> None:
    """Check the options of a command that name files or directories.

    Raises:
        ValueError: one names none, as where a variable of the shell was empty.
    """
    names = [name for name in OWN_PATHS if options.get(name) is not None]
    refuse_problems(chain.from_iterable(NAME.problems(name, options[name]) for name in names))


def _given(words: Sequence[str]) -> list[list[str]]:
    """Each setting among the words of a command, with its value if that is a word of its own."""
    return [
        [word, *(value for value in words[place + 1 : place + 2] if value[:2] != "--")]
        for place, word in enumerate(words)
        if word.startswith("--") and word[2:].partition("=")[0] in HINTS
    ]


def _faults(parse: Callable[[Any], Any], given: Iterable[Any], where: str) -> Iterator[str]:
    """What is wrong with each setting that is given, whatever the others are."""
    for alone in given:
        try:
            read = vars(parse(alone))
        except argparse.ArgumentError as error:
            yield readable(error, where)
        except OverflowError as error:
            name = next(iter(alone)).removeprefix("--").partition("=")[0]
            yield readable(error, f"{where}{name}: ")
        else:
            for name in FIELD_NAMES & read.keys():
                yield from own_problems(CORYConfig, name, read)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, with the types of `CORYConfig`.

    `preset: NAME` stands for the settings of that name; other lines win over it.

    Raises:
        ValueError: there is no such file, or it holds something else than settings.
    """
    settings = dict(read_mapping(path))
    name = settings.pop("preset", None)
    try:
        preset = preset_settings(None if name is None else str(name))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return typed_settings({**preset, **settings}, str(path))


def read_mapping(path: Path) -> Mapping[Any, Any]:
    """What a YAML file of `key: value` lines holds.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    if not is_file(path):
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
    refuse_unknown_settings(settings, where)
    listed = {
        key: [value] if isinstance(value, LONE_ITEMS.get(key, ())) else value
        for key, value in settings.items()
    }
    try:
        read = vars(_settings_parser().parse_object(listed))
    except REFUSALS:
        # The parser stops at the first value; by themselves, all that are wrong are found.
        parse_alone = _settings_parser().parse_object
        alone = [{key: listed[key]} for key in listed]
        refuse_problems(_faults(parse_alone, alone, f"{where}: "))
        raise
    return {name: read[name] for name in listed}


def refuse_unknown_settings(keys: Iterable[Any], where: str) -> None:
    """Check that every key of a YAML mapping is a setting.

    Args:
        keys: of the mapping.
        where: it stands, for a message.

    Raises:
        ValueError: some are not; the message has the fix for each.
    """
    unknown = [key for key in keys if key not in FIELD_NAMES]
    refuse_problems([f"{where}: unknown key {key!r}{fix(key, FIELD_NAMES)}" for key in unknown])


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
    is_lone = len(values) == 1 and name not in LONE_ITEMS
    return values[0] if is_lone else f"[{', '.join(values)}]"


def _refuse_unknown_options(parser: ArgumentParser, words: Iterable[str]) -> None:
    known = [
        option.removeprefix("--") for action in parser._actions for option in action.option_strings
    ]
    names = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
    unknown = [name for name in names if name not in known]
    refuse_problems([f"unknown option --{name}{fix(name, known)}" for name in unknown])


def readable(error: Exception, where: str) -> str:
    """An error of the parser in plain words: the setting, its value, and what was expected.

    Args:
        error: of the parser.
        where: what to put before the name of the setting.
    """
    message = str(error)
    if isinstance(error, OverflowError):
        return f"{where}a number has too many digits ({message})"
    name = re.search(r'Parser key "(\w+)"', message)
    # Of a list the parser names the item that is wrong, and last the list.
    value = re.search(r".*(?:Got|Given) value: (.*)", message, re.DOTALL)
    if name is None or value is None:
        lone = re.search(r"argument (--\w+): expected one argument", message)
        dash = f" (one that begins with - is written {lone[1]}=-…)" if lone else ""
        return f"{message}{dash}; see --help"
    # What is not a setting and has a type is a count.
    other = value_fix(name[1], value[1])
    return f"{where}{name[1]}: {value[1]!r} is not {describe(HINTS.get(name[1], int))}{other}"
