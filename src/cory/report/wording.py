"""Numbers and settings in the words of a reader."""

from __future__ import annotations

import json
from typing import Any


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(7.3), duration(754), duration(9000)
    ('7 s', '12 min 34 s', '2 h 30 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def setting(value: Any) -> str:
    """A value as one would write it in a recipe.

    >>> setting(None), setting(0.00002), setting([1, 2]), setting(True)
    ('null', '2e-05', '[1, 2]', 'true')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
