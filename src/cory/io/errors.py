"""What ends a run although its settings were right."""

from __future__ import annotations

EXIT_STATUS = 3
"""Of `cory` where a `CoryRuntimeError` ended it."""


class CoryRuntimeError(RuntimeError):
    """Work could not go on. What was saved before is intact, and the message says what helps."""
