"""The command line: `cory train`, `eval`, `compare`, `report` and others.

Options are parsed and checked before torch is imported, so that help and mistakes take no time.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from cory import __version__
from cory.io.errors import EXIT_STATUS, REFUSED_BY_DISK, CoryRuntimeError
from cory.io.terminal import finish_output, print_printable_traceback, say, write

COMMANDS = {
    "train": "train a team of agents, or a single one by PPO",
    "eval": "measure each agent of a run, or any model, alone on held-out queries",
    "compare": "run arms × seeds under equal settings, and say which differences are real",
    "generate": "answer a prompt with an agent, a whole team, or any model",
    "merge": "write the mean of a run's agents as one plain model",
    "chat": "talk to an agent of a run, or to the whole team",
    "completion": "print a script that completes commands and options in a shell",
    "push": "upload the agents of a run to the Hugging Face Hub",
    "report": "write a run or a comparison as one HTML page",
}
HELP = """\
usage: cory COMMAND [OPTIONS]

Fine-tune a language model by reinforcement learning as a team.

commands:
{commands}

`cory COMMAND --help` lists the options. First steps, without any download:

  cory train --task pocket-reviews --output_dir runs/first
  cory eval runs/first
  cory generate runs/first --prompt "The film was"
  cory compare --preset pocket --output_dir runs/pocket
  cory report runs/first
"""
TRACEBACK = "--traceback"
NO_SUCH_PLACE = frozenset(
    {
        *(errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.ENOENT, errno.ENOTDIR, errno.EPERM),
    }
)
"""What the operating system says where a path that was given cannot be used."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; what ends it early is one message and an exit status (docs/how-to/faults.md).

    2: a mistake in settings, data or a reward function; 3: a fault, such as a full disk; 128 + its
    number: a signal.

    Args:
        argv: the words after `cory`; None: those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    sys.excepthook = print_printable_traceback
    wants_traceback = TRACEBACK in words or bool(os.environ.get("CORY_DEBUG"))
    try:
        _run([word for word in words if word != TRACEBACK])
        finish_output()
    except ValueError as error:
        if wants_traceback:
            raise
        say(f"cory: {error}")
        sys.exit(2)
    except (CoryRuntimeError, OSError) as error:
        if not wants_traceback and isinstance(error, OSError) and _is_about_a_path(error):
            say(f"cory: {str(error.filename)!r:.300} cannot be used: {error.strerror}")
            sys.exit(2)
        is_known = isinstance(error, CoryRuntimeError) or error.errno in REFUSED_BY_DISK
        if wants_traceback or not is_known:
            raise
        fix = ": make room or make it writable, then repeat the command (a training with --resume)"
        say(f"cory: {error}{'' if isinstance(error, CoryRuntimeError) else fix}")
        with suppress(OSError):
            finish_output()
        sys.exit(EXIT_STATUS)
    except KeyboardInterrupt:
        say("cory: interrupted; the same command goes on (a training with --resume)")
        sys.exit(130)


def _underscored(word: str) -> str:
    """An option as it is called here, where it was written with dashes.

    >>> _underscored("--max-steps=3"), _underscored("a-b"), _underscored("--run_name=a-b")
    ('--max_steps=3', 'a-b', '--run_name=a-b')
    """
    name, equals, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if name[:2] == "--" else word


def _is_about_a_path(error: OSError) -> bool:
    return error.errno in NO_SUCH_PLACE and error.filename is not None


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        commands = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
        write(HELP.format(commands=commands).rstrip("\n"))
    elif words[0] in ("-V", "--version"):
        write(f"cory {__version__}")
    elif words[0] in COMMANDS:
        if words[0] != "train" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                f"`cory {words[0]}` works in one process: start it without torchrun or accelerate "
                "(only `cory train` shares its work)"
            )
        import_module(f"cory.cli.{words[0]}").run([*map(_underscored, words[1:])])
    else:
        from cory.io.files import did_you_mean

        fix = did_you_mean(words[0], COMMANDS)
        raise ValueError(f"no command {words[0]!r}{fix}; see `cory --help`")
