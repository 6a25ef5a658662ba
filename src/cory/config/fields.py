"""Facts about a setting, kept beside it as metadata of its dataclass field. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, replace
from typing import Any

from cory.io.objects import shown


@dataclass(frozen=True)
class Range:
    """The numbers that a setting, or each item of its list, may be."""

    rule: str
    """The rule in words, such as `must be greater than 0`."""
    holds: Callable[[Any], bool]

    def problems(self, name: str, value: Any) -> list[str]:
        """The error message, if the value breaks the rule."""
        numbers = value if isinstance(value, list) else [value]
        broken = [number for number in numbers if not self.holds(number)]
        return [f"{name}={shown(number)} {self.rule}" for number in broken[:1]]


def _positive(most: int) -> Range:
    rule = f"must be greater than 0 and at most {most:,}"
    return Range(rule, lambda number: TINY <= number <= most)


def _non_negative(most: int) -> Range:
    rule = f"must not be negative, nor more than {most:,}"
    return Range(rule, lambda number: 0 <= number <= most)


def _between(least: float, most: float) -> Range:
    rule = f"must lie between {least:,g} and {most:,g}"
    return Range(rule, lambda number: least <= number <= most)


TINY = 1e-30
"""What is smaller than this overflows where it divides in float32."""
POSITIVE = _positive(1_000_000_000)
"""Iterations, queries, files; and numbers that divide."""
NON_NEGATIVE = _non_negative(1_000_000_000)
FRACTION = _between(0, 1)
BELOW_ONE = Range("must be from 0 to less than 1", lambda number: 0 <= number < 1)
ABOVE_ZERO_TO_ONE = Range("must be greater than 0 and at most 1", lambda number: 0 < number <= 1)
TOP_K = Range(
    "must be 0, for all tokens, or from 2 to 1,000,000: of one token nothing can be learnt",
    lambda number: number == 0 or 2 <= number <= 1_000_000,
)
NOT_EMPTY = Range("must hold texts that are not empty", bool)
SIGNED = _between(-1e6, 1e6)
AGENTS = _positive(64)
COUNT = _positive(1_000_000)
"""Answers, tokens, mini-batches: what one iteration has to hold."""
SECONDS = _positive(1_000_000)
"""Nearly twelve days; sockets and locks wait no longer than twice that."""
SEED = Range("must not be negative, nor more than 2**63 - 1", lambda number: 0 <= number < 2**63)
TEMPERATURE = _between(0.001, 1000)


MAX_NAME_BYTES = 255
"""Of one part of a path, on most file systems."""
MAX_PATH_BYTES = 4000


@dataclass(frozen=True)
class Name:
    """Texts that can name a file, a folder, or what is on the Hub."""

    rule = (
        f"must be a name: not empty, its parts between / at most {MAX_NAME_BYTES} bytes long, "
        "without a - or ~ as its first character or a $, which mean something to a shell alone"
    )

    def problems(self, name: str, value: Any) -> list[str]:
        """The error message, if one of the texts is no name."""
        texts = value if isinstance(value, list) else [value]
        return [f"{name}={text!r:.300} {self.rule}" for text in texts if not _is_name(text)][:1]


def _is_name(text: str) -> bool:
    # Python writes the bytes of a name that are no UTF-8 as halves of characters.
    whole = text.encode(errors="surrogatepass")
    is_short = max(map(len, whole.split(b"/"))) <= MAX_NAME_BYTES and len(whole) <= MAX_PATH_BYTES
    return is_short and bool(text.strip()) and not re.search(r"^[-~]|[\0$]", text)


NAME = Name()


@dataclass(frozen=True)
class Placeholders:
    """The placeholders that a template must hold."""

    names: tuple[str, ...]

    @property
    def rule(self) -> str:
        """The rule in words."""
        return f"must hold {' and '.join(self.names)}"

    def problems(self, name: str, value: Any) -> list[str]:
        """One error message for each placeholder that is missing."""
        return [
            f"{name}={value!r:.300} has no {placeholder}: write {placeholder} where it should go"
            for placeholder in self.names
            if placeholder not in value
        ]


@dataclass(frozen=True)
class Facts:
    """Facts about one setting.

    The defaults are the strictest ones. They hold for a field that was declared without `setting`,
    so a new setting cannot be left out of an experiment's identity by mistake.
    """

    range: Range | Name | Placeholders | None = None
    """The values that the setting may have, beyond its type. None is always allowed if the type
    allows it."""
    affects_result: bool = True
    """Whether the setting can change a number in the results. Two runs that differ only in settings
    that cannot are the same experiment."""
    arm_may_change: bool = False
    """Whether the arms of a comparison may differ in it without `allow`."""
    resume_may_change: bool = False
    """Whether a resumed run may change it and still be the same experiment."""
    read_from_run: bool = True
    """Whether `cory eval`, `generate` and `merge` take it from a run's config.yaml. False: its
    default holds unless it is given again."""


def setting(
    default: Any, range: Range | Name | Placeholders | None = None, **further_facts: bool
) -> Any:
    """Declare a setting: a dataclass field with its default and its `Facts`.

    A setting that does not affect the result may always be changed on resume.

    >>> from dataclasses import dataclass, fields
    >>> @dataclass
    ... class Example:
    ...     steps: int = setting(3, POSITIVE)
    >>> facts_of(fields(Example)[0]).range.rule
    'must be greater than 0 and at most 1,000,000,000'
    """
    facts = Facts(range, **further_facts)
    if not facts.affects_result:
        facts = replace(facts, resume_may_change=True)
    return field(default=default, metadata={"facts": facts})


def facts_of(declared: Field[Any]) -> Facts:
    """The facts of a dataclass field; the strictest ones if it has none."""
    return declared.metadata.get("facts", Facts())
