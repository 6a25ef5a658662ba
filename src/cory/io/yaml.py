"""YAML files as plain values: nothing in them can run, and none can take for ever to read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_VALUES = 5_000
"""Of a file, aliases written out: nine lines of aliases can stand for a billion values."""
MAX_DEPTH = 50


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, by the safe loader; None if nothing.

    Raises:
        ValueError: it is no file, is not YAML, or is larger or deeper than any settings are.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"{path} has {size:,} bytes; settings need no more than {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """What a YAML text holds.

    Args:
        text: of one document.
        where: it comes from, for a message.

    Raises:
        ValueError: it is not YAML, or larger or deeper than any settings are.
    """
    try:
        _check_size(yaml.parse(text, yaml.SafeLoader), where)
        return yaml.load(text, Loader=_OneOfEach)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {error}") from error
    # What PyYAML raises for a tag that does not fit its value, such as `!!int ""` or `!!bool 7`.
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(
            f"{where} is not YAML: a value does not fit its tag ({error!r})"
        ) from error


class _OneOfEach(yaml.SafeLoader):
    """The safe loader, which refuses a name that stands twice: it would take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name in counts - Counter(counts.keys()) if name != "<<"]:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0]!r} stands more than once", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _check_size(events: Any, where: str) -> None:
    """Count what the document would hold, before anything of it is built."""
    # Anchored collections that are open or closed, with the count at their beginning or of all.
    sizes: dict[str, int | None] = {}
    opened: list[tuple[str | None, int]] = []
    total = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)
            if size is None:
                raise ValueError(f"{where}: *{event.anchor} stands inside itself; write it out")
            total += size
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, total))
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = None
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if total > MAX_VALUES:
            raise ValueError(f"{where} stands for more than {MAX_VALUES:,} values: write fewer")
        if len(opened) > MAX_DEPTH:
            raise ValueError(f"{where} is nested more than {MAX_DEPTH} deep: write it flatter")
