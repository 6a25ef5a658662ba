"""Inputs made from sound ones by a random generator: JSON values, and their text."""

from __future__ import annotations

import json
import random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e30,
    1e-320,
    10**24,
    10**400,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "x",
    "\0",
    "\ud800",
    "../x",
    "é" * 300,
    "a" * 5000,
    [],
    {},
    [[]],
    {"": None},
    [None],
    "null",
    "1e5",
)
DEEP = 5000


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy in which one to three places are another thing, gone, twice there, or nested."""
    for _ in range(chance.randint(1, 3)):
        value = _changed(value, chance)
    return value


def _changed(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        what = chance.randrange(10)
        if what == 0:
            return {name: value[name] for name in value if name != key}
        if what == 1:
            return {**value, chance.choice(["", "x", key.upper() if key else "y"]): value[key]}
        return {**value, key: _changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        what = chance.randrange(10)
        if what == 0:
            return value[:place] + value[place + 1 :]
        if what == 1:
            return value + value
        return [*value[:place], _changed(value[place], chance), *value[place + 1 :]]
    return value if chance.random() < 0.1 else chance.choice(HOSTILE)


def mutated_json(value: Any, chance: random.Random) -> bytes:
    """The text of a mutated value, now and then with another byte, an end too soon, or nested."""
    text = json.dumps(mutated(value, chance)).encode()
    what = chance.randrange(12)
    place = chance.randrange(len(text))
    if what == 0:
        return text[:place]
    if what == 1:
        return text[:place] + bytes([chance.randrange(256)]) + text[place + 1 :]
    if what == 2:
        return text[:place] + text[place:] * 2
    if what == 3:
        return b"[" * DEEP + text + b"]" * DEEP
    return text
