"""Warnings of libraries that do not apply to how cory uses them, and no others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Dropped(logging.Filter):
    """Leaves out the messages of a logger that hold a text, where `is_on()`."""

    def __init__(self, logger: str, text: str, is_on: Callable[[], bool]) -> None:
        super().__init__()
        self.text = text
        self.is_on = is_on
        logging.getLogger(logger).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        return not (self.is_on() and self.text in str(record.msg))


# Peft imports bitsandbytes wherever it is installed, and this one misses a faster kernel of 4 bits.
Dropped("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward", lambda: True)
# Weights that are missing, or of another shape, are refused in cory's own words.
Dropped("transformers.modeling_utils", " LOAD REPORT", lambda: True)
# Several threads compute passes side by side: each says it for itself.
_is_padded_at_the_end: ContextVar[bool] = ContextVar("is_padded_at_the_end", default=False)
Dropped(
    "transformers.modeling_utils",
    "We strongly recommend passing in an `attention_mask`",
    _is_padded_at_the_end.get,
)


@contextmanager
def padded_at_the_end() -> Iterator[None]:
    """Context of a causal pass without a mask, in which padding follows all that is real."""
    before = _is_padded_at_the_end.set(True)
    try:
        yield
    finally:
        _is_padded_at_the_end.reset(before)
