"""Annotations with shapes of tensors, checked while tests run; an int is a float, as in PEP 484.

Only functions whose annotations name shapes are checked, and in each test only their first calls.
With every call of every function of their modules checked, `tests/team` took 59 s of CPU, and 39 s
with no check at all; the known faults were all noticed before this limit and after it. Other
annotations are left to pyright.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import jaxtyping

CALLS_PER_TEST = 3

jaxtyped = jaxtyping.jaxtyped
calls: Counter[Callable[..., Any]] = Counter()


def check_annotations(package: str) -> None:
    """Check the annotations of `package`, which must not have been imported yet."""
    jaxtyping.jaxtyped = _jaxtyped_with_shapes
    jaxtyping.install_import_hook(
        package, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
    )


def _jaxtyped_with_shapes(**options: Any) -> Callable[[Any], Any]:
    """Stands in for the decorator that the import hook writes at all functions and classes."""

    def decorate(decorated: Any) -> Any:
        annotations = getattr(decorated, "__annotations__", {})
        if not any("[Tensor, '" in str(annotation) for annotation in annotations.values()):
            return decorated
        checked = jaxtyped(decorated, **options)
        if isinstance(decorated, type):
            return checked

        @functools.wraps(decorated)
        def first_calls_checked(*args: Any, **kwargs: Any) -> Any:
            calls[decorated] += 1
            return (checked if calls[decorated] <= CALLS_PER_TEST else decorated)(*args, **kwargs)

        return first_calls_checked

    return decorate
