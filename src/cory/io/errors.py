"""What ends a run although its settings were right."""

from __future__ import annotations

import errno

EXIT_STATUS = 3
"""Of `cory` where a `CoryRuntimeError` ended it."""
REFUSED_BY_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""What the operating system says of a full or read-only disk."""


class CoryRuntimeError(RuntimeError):
    """Work could not go on. What was saved before is intact, and the message says what helps."""
