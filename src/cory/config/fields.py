"""Facts about a setting, kept beside it as metadata of its dataclass field. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be."""

    rule: str
    """The rule in words, such as `must be greater than 0`."""
    holds: Callable[[Any], bool]

    def problems(self, name: str, value: Any) -> list[str]:
        """The error message, if the value breaks the rule."""
        return [] if self.holds(value) else [f"{name}={value} {self.rule}"]


POSITIVE = Range("must be greater than 0", lambda value: value > 0)
NON_NEGATIVE = Range("must not be negative", lambda value: value >= 0)
FRACTION = Range("must lie between 0 and 1", lambda value: 0 <= value <= 1)
NOT_EMPTY = Range("must hold texts that are not empty", all)


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
            f"{name}={value!r} has no {placeholder}: write {placeholder} where it should go"
            for placeholder in self.names
            if placeholder not in value
        ]


@dataclass(frozen=True)
class Facts:
    """Facts about one setting.

    The defaults are the strictest ones. They hold for a field that was declared without `setting`,
    so a new setting cannot be left out of an experiment's identity by mistake.
    """

    range: Range | Placeholders | None = None
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


def setting(default: Any, range: Range | Placeholders | None = None, **further_facts: bool) -> Any:
    """Declare a setting: a dataclass field with its default and its `Facts`.

    A setting that does not affect the result may always be changed on resume.

    >>> from dataclasses import dataclass, fields
    >>> @dataclass
    ... class Example:
    ...     steps: int = setting(3, POSITIVE)
    >>> facts_of(fields(Example)[0]).range.rule
    'must be greater than 0'
    """
    facts = Facts(range, **further_facts)
    if not facts.affects_result:
        facts = replace(facts, resume_may_change=True)
    return field(default=default, metadata={"facts": facts})


def facts_of(declared: Field[Any]) -> Facts:
    """The facts of a dataclass field; the strictest ones if it has none."""
    return declared.metadata.get("facts", Facts())
