"""Calling reward functions, checking what they return, and adding it up."""

from __future__ import annotations

import asyncio
import inspect
import math
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cory.processes import World
from cory.tasks import RewardFunc

RESERVED_COLUMNS = frozenset({"prompt", "prompts", "completion", "completions", "completion_ids"})
"""Columns of a data set that are not passed on: they would hide what was sampled."""


class RewardError(ValueError):
    """A reward function failed or returned something that is not a reward."""


@dataclass(frozen=True)
class Scores:
    """What B completions earned: their weighted rewards, and those of each function by name.

    A function's are NaN in the rows where it did not apply.
    """

    total: Float[Tensor, " B"]
    by_function: dict[str, Float[Tensor, " B"]]

    @property
    def means(self) -> dict[str, float]:
        """Of each function over the rows where it applied; missing where there was none."""
        applied = {name: row[~row.isnan()] for name, row in self.by_function.items()}
        return {name: row.double().mean().item() for name, row in applied.items() if len(row)}

    def joined(self, world: World, count: int) -> Scores:
        """All `count` rows, of which each process has its part."""
        join = [self.total, *self.by_function.values()]
        total, *rows = (torch.tensor(world.join(row.tolist(), count)) for row in join)
        return Scores(total, dict(zip(self.by_function, rows, strict=True)))


def score_completions(
    reward_funcs: Sequence[RewardFunc],
    reward_weights: Sequence[float] | None,
    prompts: Sequence[Any],
    completions: Sequence[str],
    completion_ids: Sequence[Sequence[int]],
    columns: Mapping[str, Sequence[Any]],
) -> Scores:
    """Reward of each completion: Σ_f weight_f · f, over the functions f that apply to it.

    Functions are called as `f(prompts=…, completions=…, completion_ids=…, **columns)`, as TRL does;
    where the prompt is a list of chat messages the completion is one, too. Async functions run at
    the same time, also inside a running event loop.

    Args:
        reward_funcs: at least one.
        reward_weights: one per function; None: all 1.
        prompts: B queries, texts or chat messages.
        completions: B answers without special tokens.
        completion_ids: B lists of the sampled token ids.
        columns: the other columns of the data set, B values each.

    Raises:
        RewardError: a function raised, or returned too few or too many values, or one that is
            neither a finite number nor None.
        ValueError: the number of weights differs from that of functions.
    """
    weights = [1.0] * len(reward_funcs) if reward_weights is None else list(reward_weights)
    if not reward_funcs or len(weights) != len(reward_funcs):
        raise ValueError(
            f"{len(weights)} reward_weights for {len(reward_funcs)} reward functions; give at "
            "least one function, and one weight to each."
        )
    names = unique_names(reward_funcs)
    inputs = {
        **{name: list(column) for name, column in columns.items() if name not in RESERVED_COLUMNS},
        "prompts": list(prompts),
        "completions": [
            completion
            if isinstance(prompt, str)
            else [{"role": "assistant", "content": completion}]
            for prompt, completion in zip(prompts, completions, strict=True)
        ],
        "completion_ids": [list(ids) for ids in completion_ids],
    }
    returned = _call_all(reward_funcs, names, inputs)
    rewards = torch.tensor(
        [
            _checked(values, name, len(prompts))
            for name, values in zip(names, returned, strict=True)
        ],
        dtype=torch.float32,
    )
    return _weighted(rewards, torch.tensor(weights, dtype=torch.float32), names)


def unique_names(reward_funcs: Sequence[RewardFunc]) -> list[str]:
    """Names for metrics: the function's own, with `_2`, `_3` … where one comes again."""
    names: list[str] = []
    for function in reward_funcs:
        name = _name(function)
        count = 1 + sum(_name(earlier) == name for earlier in reward_funcs[: len(names)])
        names.append(name if count == 1 else f"{name}_{count}")
    return names


def _name(function: RewardFunc) -> str:
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _weighted(
    rewards: Float[Tensor, "F B"], weights: Float[Tensor, " F"], names: Sequence[str]
) -> Scores:
    """Sum over functions; NaN marks where one does not apply."""
    applies = ~rewards.isnan()
    unpaid = (~applies.any(0)).nonzero().flatten().tolist()
    if unpaid:
        warnings.warn(
            f"No reward function applies to row {unpaid[0]} of the batch ({len(unpaid)} such "
            "rows): all returned None, so its reward is 0.",
            stacklevel=3,
        )
    total = (weights[:, None] * rewards).nansum(0)
    return Scores(total, dict(zip(names, rewards, strict=True)))


def _call_all(
    reward_funcs: Sequence[RewardFunc], names: Sequence[str], inputs: dict[str, Any]
) -> list[Any]:
    """What each function returns. Plain ones run one after another, then async ones together."""
    returned: dict[int, Any] = {}
    for index, function in enumerate(reward_funcs):
        if not _is_async(function):
            with _naming(names[index], inputs):
                returned[index] = function(**inputs)

    async def call(index: int) -> None:
        with _naming(names[index], inputs):
            returned[index] = await reward_funcs[index](**inputs)

    async def call_rest() -> None:
        rest = [index for index in range(len(reward_funcs)) if index not in returned]
        await asyncio.gather(*map(call, rest))

    if len(returned) < len(reward_funcs):
        _run(call_rest)
    return [returned[index] for index in range(len(reward_funcs))]


@contextmanager
def _naming(name: str, inputs: Mapping[str, Any]) -> Iterator[None]:
    """Turn whatever a user's function raises into a `RewardError` that says where it came from."""
    try:
        yield
    except Exception as error:
        columns = sorted(inputs.keys() - {"prompts", "completions", "completion_ids"})
        raise RewardError(
            f"Reward function {name!r} raised {type(error).__name__}: {error}\n"
            f"It was called with prompts, completions, completion_ids and columns {columns}; it "
            "should name those that it needs, and take **kwargs for the rest.\n"
            f"First prompt: {inputs['prompts'][0]!r:.500}\n"
            f"First completion: {inputs['completions'][0]!r:.500}"
        ) from error


def _is_async(function: RewardFunc) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def _run(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function to its end, in a thread of its own where a loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(function())
        return
    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(lambda: asyncio.run(function())).result()


def _checked(values: Any, name: str, num_rows: int) -> list[float]:
    """The values as floats, NaN for None."""
    is_sequence = hasattr(values, "__len__") and hasattr(values, "__iter__")
    if not is_sequence or isinstance(values, str | bytes | Mapping) or _is_scalar(values):
        raise RewardError(
            f"Reward function {name!r} returned {values!r:.200}; it must return a list with one "
            f"number or None for each of the {num_rows} completions."
        )
    if len(values) != num_rows:
        raise RewardError(
            f"Reward function {name!r} returned {len(values)} values for {num_rows} completions; "
            "it must return one for each (None where it does not apply)."
        )
    return [_reward(value, name, row) for row, value in enumerate(values)]


def _reward(value: Any, name: str, row: int) -> float:
    if value is None:
        return math.nan
    number = value.item() if _is_scalar(value) else value
    if not isinstance(number, Real):
        raise RewardError(
            f"Reward function {name!r} returned {value!r:.200} ({type(value).__name__}) for row "
            f"{row}; it must return a number, or None where it does not apply."
        )
    reward = float(number)
    if not math.isfinite(reward):
        raise RewardError(
            f"Reward function {name!r} returned {reward} for row {row}; a reward must be finite. "
            "Return None where the function does not apply."
        )
    return reward


def _is_scalar(value: Any) -> bool:
    """Whether `value` is a numpy or torch scalar, or an array without dimensions."""
    return getattr(value, "shape", None) == () and hasattr(value, "item")
