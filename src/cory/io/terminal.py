"""The one way to a terminal: no text of a model, a data set or a file may steer it.

An escape sequence recolours, moves or hides what a terminal shows, some make it type; a bidi
control turns round what stands beside it; rich takes `[red]` and `[link=…]` for its own. Here
controls are shown by their number, as the HTML report shows them, and brackets are brackets.
"""

from __future__ import annotations

import re
import sys
import traceback
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.text import Text

from cory.io.urls import without_password

CONTROLS = (
    # C0 but tab and newline, delete, C1; marks, embeddings, overrides and isolates of direction;
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
    # what breaks a line or has no width; halves of characters; tags, which nobody sees.
    "\\u2028\\u2029\\u200b\\u2060-\\u2065\\ufeff\\ud800-\\udfff\\U000e0000-\\U000e007f"
)
"""Characters that hide text or act on what stands around it, as a class of a pattern."""
_CONTROL = re.compile(f"[{CONTROLS}]")


def printable(text: str) -> str:
    r"""Text with every control character but \n and \t shown by its number.

    >>> printable("fine\x1b[2J\ttoo\x07")
    'fine<U+001B>[2J\ttoo<U+0007>'
    """
    return _CONTROL.sub(lambda control: f"<U+{ord(control[0]):04X}>", text)


def is_unicode(text: str) -> bool:
    """Whether a word of a command is text; Python writes other bytes as halves of characters."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def model_text(text: str) -> Text:
    """Foreign text for rich: printable, its brackets taken literally."""
    return Text(printable(text))


def say(text: str) -> None:
    """Write a line to standard error, without passwords of addresses.

    A full disk or a lost terminal there ends no work.
    """
    with suppress(OSError):
        sys.stderr.write(f"{printable(without_password(text))}\n")


def write(text: str) -> None:
    """Write a line to standard output: printable on a terminal, as it is to a file or a pipe."""
    sys.stdout.write(f"{printable(text) if sys.stdout.isatty() else text}\n")


def finish_output() -> None:
    """Write out what is kept back of standard output.

    Raises:
        OSError: it cannot be written; nothing more will be tried.
    """
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None
        raise


def new_console(*, to_stderr: bool = False, is_quiet: bool = False) -> Console:
    """A rich console that takes nothing in a text for colours, links or pictures."""
    return Console(stderr=to_stderr, highlight=False, markup=False, emoji=False, quiet=is_quiet)


def print_printable_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What Python says of an error that nobody caught, as `sys.excepthook`: it quotes values."""
    say("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))
