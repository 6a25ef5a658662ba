"""What reward functions can be called with, known before they are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

GIVEN = ("prompts", "completions", "completion_ids")
"""What every function is called with, beside the columns of the data set."""
ON_REQUEST = ("trainer_state", "log_extra", "log_metric")
"""What a function gets that names it or takes **kwargs."""


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument of this name, or any.

    A decorated function takes what both it and the one inside it take.
    """
    return all(
        name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        for parameters in (_parameters(function, True), _parameters(function, False))
        if parameters is not None
    )


def check_signature(function: Callable[..., Any], name: str, columns: Iterable[str]) -> None:
    """Refuse a function that cannot be called with these columns of the data set.

    Raises:
        ValueError: it needs what there is not, or does not take what there is.
    """
    parameters = _parameters(function, follow_wrapped=False)
    if parameters is None:
        return
    given = [*GIVEN, *columns]
    given += [tool for tool in ON_REQUEST if takes(function, tool)]
    try:
        inspect.Signature(list(parameters.values())).bind(**dict.fromkeys(given))
    except TypeError as error:
        raise ValueError(
            f"Reward function {name!r} cannot be called: {error}. It is called with "
            f"{', '.join(given)}, by name; it should name those that it needs, and take **kwargs "
            "for the rest."
        ) from None


def _parameters(
    function: Callable[..., Any], follow_wrapped: bool
) -> dict[str, inspect.Parameter] | None:
    """By name; None where Python does not know them, as of some built-in functions."""
    try:
        return dict(inspect.signature(function, follow_wrapped=follow_wrapped).parameters)
    except Exception:  # noqa: BLE001  an object of the user's may raise anything
        return None
