"""What the command line asks of the libraries below it."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cory.io.late import importing_late
from cory.io.terminal import printable, say


def quieten() -> None:
    """Keep progress bars of loading and mapping off the screen; downloads still show theirs.

    Hidden, too, are warnings that libraries address to each other: a user can do nothing there.
    """
    # Read at import, by tokenizers that are forked with a data loader.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # peft asks a transformers model by the old name of this property.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    # peft asks for bitsandbytes wherever it is installed, which takes longer than all of peft; only
    # quantised weights need it.
    with _collector_paused(), importing_late("bitsandbytes"):
        import datasets
        import peft  # noqa: F401
        import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    # Both quote what stands in files: names of weights, settings of models.
    warnings.showwarning = _say_warning
    for handler in logging.getLogger("transformers").handlers:
        handler.addFilter(_make_printable)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Context of imports: what they make stays, so no garbage collection looks at it, ever."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _say_warning(message: Any, category: type[Warning], name: str, line: int, *_: Any) -> None:
    say(warnings.formatwarning(message, category, name, line).rstrip())


def _make_printable(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True
