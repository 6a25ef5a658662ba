"""Warnings of libraries that do not apply to how cory uses them, and no others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Dropped(logging.Filter):
    """Leaves out the messages of a logger that begin so, while `is_on`."""

    def __init__(self, logger: str, beginning: str, *, is_on: bool) -> None:
        super().__init__()
        self.beginning = beginning
        self.is_on = is_on
        logging.getLogger(logger).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        return not (self.is_on and str(record.msg).startswith(self.beginning))


# Peft imports bitsandbytes wherever it is installed, and this one misses a faster kernel of 4 bits.
Dropped("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward", is_on=True)
_PADDING = Dropped(
    "transformers.modeling_utils",
    "We strongly recommend passing in an `attention_mask`",
    is_on=False,
)


@contextmanager
def padded_at_the_end() -> Iterator[None]:
    """Context of a causal pass without a mask, in which padding follows all that is real."""
    _PADDING.is_on = True
    try:
        yield
    finally:
        _PADDING.is_on = False
