"""Calling reward functions, with a time limit, and checking what they return."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

T = TypeVar("T")
RewardFunc = Callable[..., Any]
"""`f(prompts=…, completions=…, completion_ids=…, **columns)` returns one float per completion, or
None where it does not apply; it may be async. TRL's convention."""
SECONDS_TO_GIVE_UP = 1.0
"""How long async functions may take to notice that their time is up."""


class RewardError(ValueError):
    """A reward function failed or returned something that is not a reward.

    Args:
        message: what is wrong, and the rule.
        rows: of the call that are at fault; None: not known, so all.
        rewards: what the rows of the call were paid, NaN where that is not known; None: nothing is.
    """

    def __init__(
        self,
        message: str,
        rows: Sequence[int] | None = None,
        rewards: Sequence[float] | None = None,
    ) -> None:
        super().__init__(message)
        self.rows = rows
        self.rewards = rewards


@dataclass(frozen=True)
class Call:
    """A reward function, its name, and the columns that it is called with."""

    function: RewardFunc
    name: str
    inputs: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.inputs["prompts"])

    def alone(self, row: int) -> Call:
        """The same for one row."""
        inputs = {name: list(column[row : row + 1]) for name, column in self.inputs.items()}
        return Call(self.function, self.name, inputs)


Outcome = list[float] | RewardError
"""A reward per row, NaN where the function does not apply; or why there are none."""


def make_calls(calls: Sequence[Call], timeout: float | None) -> list[Outcome]:
    """What the functions return. Plain ones run one after another, then async ones together.

    Each may take `timeout` seconds (None: no limit), in a thread of its own, which is left behind
    when they are over: Python cannot end it.
    """
    outcomes: dict[int, Outcome] = {}
    awaited: dict[int, Call] = {}
    for index, call in enumerate(calls):
        if _is_async(call.function):
            awaited[index] = call
        else:
            outcomes[index] = _outcome(call, timeout)
    if awaited:
        outcomes |= _together(awaited, timeout)
    return [outcomes[index] for index in range(len(calls))]


def _outcome(call: Call, timeout: float | None) -> Outcome:
    def work() -> list[float]:
        with _naming(call):
            returned = call.function(**call.inputs)
        return checked(returned, call.name, len(call))

    try:
        return _within(timeout, work)
    except RewardError as error:
        return error
    except TimeoutError:
        return _took_too_long(call, timeout)


def _together(calls: Mapping[int, Call], timeout: float | None) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}

    async def make(index: int, call: Call) -> None:
        try:
            with _naming(call):
                returned = await call.function(**call.inputs)
            outcomes[index] = checked(returned, call.name, len(call))
        except RewardError as error:
            outcomes[index] = error

    async def make_all() -> None:
        # Those that are not done in time are cancelled by asyncio.run.
        await asyncio.wait(
            [asyncio.create_task(make(index, call)) for index, call in calls.items()],
            timeout=timeout,
        )

    # One that never awaits anything cannot be cancelled.
    with suppress(TimeoutError):
        _within(None if timeout is None else timeout + SECONDS_TO_GIVE_UP, lambda: _run(make_all))
    unfinished = {index: _took_too_long(call, timeout) for index, call in calls.items()}
    return {**unfinished, **outcomes}


def _within(seconds: float | None, work: Callable[[], T]) -> T:
    """The result of some work; with a limit it runs in a thread that keeps nobody from exiting.

    Raises:
        TimeoutError: there was none in time.
    """
    if seconds is None:
        return work()
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised again by whoever waits
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result.result(seconds)


def _run(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function to its end, in a thread of its own where a loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(function())
        return
    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(lambda: asyncio.run(function())).result()


@contextmanager
def _naming(call: Call) -> Iterator[None]:
    """Turn whatever a user's function raises into a `RewardError` that says where it came from."""
    try:
        yield
    except Exception as error:
        columns = sorted(call.inputs.keys() - {"prompts", "completions", "completion_ids"})
        raise RewardError(
            f"Reward function {call.name!r} raised {type(error).__name__}: {error}\n"
            f"It was called with prompts, completions, completion_ids and columns {columns}; it "
            f"should name those that it needs, and take **kwargs for the rest.\n{_first_row(call)}"
        ) from error


def _took_too_long(call: Call, timeout: float | None) -> RewardError:
    return RewardError(
        f"Reward function {call.name!r} did not return within reward_timeout={timeout} seconds for "
        f"{len(call)} completions. Let it end by itself, or allow more.\n{_first_row(call)}",
        rows=range(len(call)),
    )


def _first_row(call: Call) -> str:
    return (
        f"First prompt: {call.inputs['prompts'][0]!r:.500}\n"
        f"First completion: {call.inputs['completions'][0]!r:.500}"
    )


def _is_async(function: RewardFunc) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def checked(values: Any, name: str, num_rows: int) -> list[float]:
    """The values that a reward function returned as floats, NaN for None.

    Raises:
        RewardError: they are not one finite number or None for each row.
    """
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
    rewards = [math.nan] * num_rows
    refusals: dict[int, str] = {}
    for row, value in enumerate(values):
        if value is None:
            continue
        number = value.item() if _is_scalar(value) else value
        if not isinstance(number, Real):
            refusals[row] = (
                f"Reward function {name!r} returned {value!r:.200} ({type(value).__name__}) for "
                f"row {row}; it must return a number, or None where it does not apply."
            )
        elif not math.isfinite(number):
            refusals[row] = (
                f"Reward function {name!r} returned {float(number)} for row {row}; a reward must "
                "be finite. Return None where the function does not apply."
            )
        else:
            rewards[row] = float(number)
    if refusals:
        raise RewardError(next(iter(refusals.values())), list(refusals), rewards)
    return rewards


def _is_scalar(value: Any) -> bool:
    """Whether `value` is a numpy or torch scalar, or an array without dimensions."""
    return getattr(value, "shape", None) == () and hasattr(value, "item")
