"""Write the pages of the reference that follow from the source: settings and command line.

`python -m scripts.docs.reference` writes them into docs/reference. With `--check` it writes
nothing and fails where a page differs from what the source says now.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin
from unittest.mock import patch

import docstring_parser

from cory.cli import COMMANDS, main
from cory.cli.help import HINTS
from cory.config import SETTINGS, THEMES, CORYConfig
from cory.config.presets import PRESETS
from cory.tasks import TASKS, task_defaults
from cory.trl.arguments import ARGUMENTS
from cory.trl.objectives import CLASSIC_PPO, CLASSIC_RLOO, OBJECTIVES
from cory.trl.rows import Row

DIRECTORY = Path(__file__).resolve().parents[2] / "docs" / "reference"
MADE = "<!-- Made from the source by `make reference`. Change the source, not this page. -->"
SETTINGS_INTRODUCTION = """\
Every field of `CORYConfig`, by theme. Each is an argument in Python, an option of `cory train` and
`cory compare`, and a key of a settings file.

A value is looked for in this order: the option on the command line, the settings file, the preset,
the run that `--resume` continues, the task, the default below."""
OWN_SECTIONS = {"positional arguments:": "Arguments:", "options:": "Options:"}
CLI_INTRODUCTION = """\
`cory COMMAND --help` prints the same. Every [setting](settings.md) is an option of each command,
except of `cory report`, `push` and `completion`. [Exit statuses](../how-to/faults.md) say how a
command ended."""


TRL_INTRODUCTION = """\
What `cory.trl` makes of each argument of TRL 1.16 and of `TrainingArguments`, those of earlier
releases included. A value that is refused is named with all other problems of the call. One that
has no effect gets a line on standard error. All [settings](settings.md) are arguments as well;
[Coming from TRL](../how-to/from-trl.md) shows how."""
TRL_KINDS = {
    "setting": "setting, ",
    "used": "used, ",
    "no-op": "no effect: ",
    "refused": "refused: ",
}


def settings_page() -> str:
    """Every setting by theme, then the settings that presets and tasks bring."""
    by_name = {field.name: field for field in fields(CORYConfig)}
    blocks = ["# Settings", MADE, SETTINGS_INTRODUCTION]
    for title, theme in THEMES.items():
        documentation = docstring_parser.parse_from_object(theme)
        blocks += [f"## {_capitalised(title)}", _wrapped(documentation.short_description or "")]
        for parameter in documentation.params:
            blocks += _setting(by_name[parameter.arg_name], parameter.description or "")
    blocks += ["## Presets", "A preset sets these values. A settings file and options win over it."]
    for name, values in PRESETS.items():
        blocks += [f"### Preset `{name}`", _assignments(values)]
    blocks += ["## Tasks", "A built-in task sets these values. A preset wins over it."]
    for name in TASKS:
        blocks += [f"### Task `{name}`", _assignments(task_defaults(name))]
    return _page(blocks)


def _setting(field: Field[Any], meaning: str) -> Iterator[str]:
    yield f"### `{field.name}`"
    allowed = SETTINGS[field.name].range
    rule = "" if allowed is None else f" It {allowed.rule}."
    yield _wrapped(
        f"{_capitalised(_type_text(HINTS[field.name]))}. Default: {_code(field.default)}.{rule}"
    )
    yield _wrapped(meaning)


def _type_text(hint: Any) -> str:
    """A type in words.

    >>> _type_text(int | None), _type_text(Literal["a", "b"])
    ('`int` or `None`', 'one of `a`, `b`')
    """
    if get_origin(hint) is Literal:
        return f"one of {', '.join(f'`{choice}`' for choice in get_args(hint))}"
    if get_origin(hint) in (list, dict):
        return f"`{str(hint).replace('typing.', '')}`"
    if get_args(hint):
        return " or ".join(_type_text(part) for part in get_args(hint))
    return "`None`" if hint is NoneType else f"`{hint.__name__}`"


def _assignments(values: dict[str, Any]) -> str:
    return "\n".join(
        _item(f"[`{name}`](#{name}): {_code(value)}") for name, value in values.items()
    )


def _code(value: Any) -> str:
    """A value as Python writes it, in Markdown's code marks."""
    return f"`{value!r}`"


def command_line_page() -> str:
    """What each command does, and the options that are its own."""
    blocks = ["# Command line", MADE, CLI_INTRODUCTION]
    for command in COMMANDS:
        usage, description, *sections = _help_of(command).split("\n\n")
        blocks += [f"## `cory {command}`", _wrapped(description), f"```text\n{_usage(usage)}\n```"]
        for section in sections:
            heading, _, entries = section.partition("\n")
            if heading in OWN_SECTIONS and (own := "\n".join(_options(entries))):
                blocks += [OWN_SECTIONS[heading], own]
    return _page(blocks)


def trl_page() -> str:
    """What becomes of every field of TRL's configurations."""
    tables = {
        "TrainingArguments": ARGUMENTS,
        "GRPOConfig and RLOOConfig": {**OBJECTIVES, **CLASSIC_RLOO},
        "PPOConfig of TRL 0.12 to 1.15": CLASSIC_PPO,
    }
    blocks = ["# TRL's arguments", MADE, TRL_INTRODUCTION]
    for title, table in tables.items():
        blocks += [f"## {title}", "\n".join(_rows_of(table))]
    return _page(blocks)


def _rows_of(table: Mapping[str, Row]) -> Iterator[str]:
    for name, row in table.items():
        yield _item(f"`{name}`: {TRL_KINDS[row.kind]}{row.words}")


def _help_of(command: str) -> str:
    """What `cory COMMAND --help` prints on a wide terminal."""
    printed = io.StringIO()
    environment = {"COLUMNS": "1000", "NO_COLOR": "1"}
    with patch.dict(os.environ, environment), redirect_stdout(printed), suppress(SystemExit):
        main([command, "--help"])
    return printed.getvalue()


def _usage(usage: str) -> str:
    """The usage on lines of at most 80 columns, broken between options."""
    words = re.findall(r"\[.*?\]|\S+", usage.removeprefix("usage:"))
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) > 80:
            lines.append("    " + word)
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)


def _options(entries: str) -> Iterator[str]:
    for line in entries.splitlines():
        names, _, meaning = line.strip().partition("  ")
        if names != "-h, --help":
            yield _item(f"`{names}`: {meaning.strip()}")


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _wrapped(text: str, **options: str) -> str:
    """A paragraph on lines of at most 100 columns."""
    words = " ".join(text.split())
    return textwrap.fill(words, 100, break_long_words=False, break_on_hyphens=False, **options)


def _item(text: str) -> str:
    """An item of a list."""
    return _wrapped(f"- {text}", subsequent_indent="  ")


def _page(blocks: list[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "cli.md": command_line_page,
    "trl.md": trl_page,
}


def outdated() -> list[Path]:
    """The pages that differ from what the source says."""
    return [
        DIRECTORY / name
        for name, make in PAGES.items()
        if not (DIRECTORY / name).exists() or (DIRECTORY / name).read_text() != make()
    ]


def write() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (DIRECTORY / name).write_text(make())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    if not parser.parse_args().check:
        write()
    elif stale := outdated():
        sys.exit(f"out of date, run `make reference`: {', '.join(map(str, stale))}")
