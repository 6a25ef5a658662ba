"""YAML files as plain values: nothing in them can run, and none can take for ever to read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cory.io.files import is_file

MAX_BYTES = 1_000_000
MAX_VALUES = 5_000
"""Of a file, aliases written out: nine lines of aliases can stand for a billion values."""
MAX_DEPTH = 50
_ANOTHER_NUMBER = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*:.*")


class _Loader(yaml.SafeLoader):
    """The safe loader, without what YAML 1.1 reads as something else than it seems to be."""

    def compose_scalar_node(self, anchor: Any) -> Any:
        node: Any = super().compose_scalar_node(anchor)
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and _ANOTHER_NUMBER.fullmatch(node.value):
            fault = (
                f"{node.value} is a number of base 8 or 60: write it to base 10, a text in quotes"
            )
            raise yaml.MarkedYAMLError(problem=fault, problem_mark=node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        keys: set[tuple[str, str]] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in keys:
                fault = f"the key {key.value!r:.100} stands there twice: remove one"
                raise yaml.MarkedYAMLError(problem=fault, problem_mark=key.start_mark)
            keys.add((key.tag, key.value))
        return node


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, by the safe loader; None if nothing.

    Raises:
        ValueError: it is no file, is not YAML, or is larger or deeper than any settings are.
    """
    try:
        if not is_file(path):
            raise ValueError(f"{path} cannot be read: it is missing")
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
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1},"
        parts = [getattr(error, name, None) for name in ("context", "problem")]
        fault = ", ".join(filter(None, parts)) or " ".join(str(error).split())
        raise ValueError(f"{where}{line} is not YAML: {fault}") from error
    # What PyYAML raises for a tag that does not fit its value, such as `!!int ""` or `!!bool 7`.
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(
            f"{where} is not YAML: a value does not fit its tag ({error!r})"
        ) from error


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
