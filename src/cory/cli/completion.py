"""`cory completion`: a script that lets a shell complete commands, options and choices."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from typing import Literal, get_args, get_origin
from unittest.mock import patch

from cory.cli import COMMANDS
from cory.cli.help import HINTS, PlainParser
from cory.cli.options import SETTINGS_ARE_OPTIONS
from cory.config.presets import PRESETS, recipes
from cory.io.terminal import write
from cory.tasks import TASKS

USAGE = "cory completion bash|zsh"
DESCRIPTION = """\
Print a script that completes commands, options and choices. For bash: add
`eval "$(cory completion bash)"` to ~/.bashrc; for zsh the same with zsh to ~/.zshrc."""
SCRIPT = """\
_cory() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" options=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    case "$before" in
{choices}
    esac
    case "${{COMP_WORDS[1]}}" in
{options}
    esac
    case "$word" in
        -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
        *) COMPREPLY=($(compgen -f -- "$word")) ;;
    esac
}}
complete -o filenames -F _cory cory
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def run(words: Sequence[str]) -> None:
    """Carry out `cory completion` with the words after it.

    Raises:
        ValueError: the shell is another one.
    """
    parser = PlainParser("cory completion", usage=USAGE, description=DESCRIPTION)
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell")
    shell = parser.parse_args(words).shell
    write((ZSH if shell == "zsh" else "") + script().rstrip("\n"))


def script() -> str:
    """Of bash; zsh reads it, too."""
    choices = {
        **{f"--{name}": found for name, hint in HINTS.items() if (found := _choices(hint))},
        "--task": list(TASKS),
        "--preset": list(PRESETS),
        "--recipe": list(recipes()),
    }
    return SCRIPT.format(
        commands=" ".join(COMMANDS),
        choices="\n".join(
            f'        {name}) COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$word")); return ;;'
            for name, values in choices.items()
        ),
        options="\n".join(
            f'        {command}) options="{" ".join(_options(command))}" ;;' for command in COMMANDS
        ),
    )


def _choices(hint: object) -> list[str]:
    parts: Iterable[object] = (hint, *get_args(hint))
    return [text for part in parts if get_origin(part) is Literal for text in get_args(part)]


def _options(command: str) -> list[str]:
    """The options in the help of a command, and those that it only mentions."""
    if command == "completion":
        return []
    text = io.StringIO()
    with patch.dict(os.environ, {"COLUMNS": "1000"}), redirect_stdout(text), suppress(SystemExit):
        import_module(f"cory.cli.{command}").run(["--help"])
    found = set(re.findall(r"(?<![\w-])--\w+", text.getvalue()))
    if SETTINGS_ARE_OPTIONS in text.getvalue():
        found |= {f"--{name}" for name in HINTS}
    return sorted(found - {"--SETTING"})
