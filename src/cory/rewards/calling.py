"""Calling reward functions: with inputs of their own, a time limit, and every failure caught."""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from transformers import TrainerState

from cory.io.signals import Stopped
from cory.rewards.isolation import copied, state_put_back
from cory.rewards.logs import Log
from cory.rewards.signatures import GIVEN, takes
from cory.rewards.values import RewardError, checked, described, shown

T = TypeVar("T")
RewardFunc = Callable[..., Any]
"""`f(prompts=…, completions=…, completion_ids=…, **columns)` returns one float per completion, or
None where it does not apply; it may be async. It may ask for `trainer_state`, `log_extra` and
`log_metric`, too. TRL's convention."""
SECONDS_TO_GIVE_UP = 1.0
"""How long async functions may take to notice that their time is up."""


@dataclass(frozen=True)
class Call:
    """A reward function, its name, the columns that it is called with, and what it may log."""

    function: RewardFunc
    name: str
    inputs: Mapping[str, Sequence[Any]]
    state: TrainerState
    log: Log

    def __len__(self) -> int:
        return len(self.inputs["prompts"])

    def alone(self, row: int) -> Call:
        """The same for one row; what it logs is dropped."""
        inputs = {name: list(column[row : row + 1]) for name, column in self.inputs.items()}
        return Call(self.function, self.name, inputs, self.state, Log(1))

    def make(self) -> Any:
        """Call the function; its arguments are its own, to be changed as it likes."""
        # Cell by cell, since the answers to a query share the query's row.
        columns = {name: list(map(copied, column)) for name, column in self.inputs.items()}
        tools = {
            "trainer_state": _copy_of(self.state),
            "log_extra": self.log.extra,
            "log_metric": self.log.metric,
        }
        asked_for = {name: tool for name, tool in tools.items() if takes(self.function, name)}
        return self.function(**columns, **asked_for)


def _copy_of(state: TrainerState) -> TrainerState:
    own = copy.copy(state)
    own.log_history = list(state.log_history)
    return own


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
            with state_put_back():
                outcomes[index] = _outcome(call, timeout)
    if awaited:
        with state_put_back():
            outcomes |= _together(awaited, timeout)
    return [outcomes[index] for index in range(len(calls))]


def _outcome(call: Call, timeout: float | None) -> Outcome:
    def work() -> list[float]:
        with _naming(call):
            returned = call.make()
            if inspect.isawaitable(returned):  # a plain function that hands on an async one's
                returned = _run(partial(_awaited, returned))
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
                outcomes[index] = checked(await call.make(), call.name, len(call))
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


def _run(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end, in a thread of its own where a loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(function())
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(lambda: asyncio.run(function())).result()


async def _awaited(returned: Awaitable[T]) -> T:
    return await returned


@contextmanager
def _naming(call: Call) -> Iterator[None]:
    """Turn whatever a user's function raises into a `RewardError` that says where it came from.

    `sys.exit` included: a judge does not end the run. A request to end, by a signal or of asyncio,
    is none of the function's.
    """
    try:
        yield
    except (KeyboardInterrupt, Stopped, RewardError):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        columns = sorted(call.inputs.keys() - set(GIVEN))
        raise RewardError(
            f"Reward function {call.name!r} raised {described(error)}\n"
            f"It was called with {', '.join(GIVEN)} and columns {columns}.\n{_first_row(call)}"
        ) from error


def _is_cancelled() -> bool:
    """Whether it was asyncio that ended the task in which this is called."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def _took_too_long(call: Call, timeout: float | None) -> RewardError:
    return RewardError(
        f"Reward function {call.name!r} did not return within reward_timeout={timeout} seconds for "
        f"{len(call)} completions. Let it end by itself, or allow more.\n{_first_row(call)}",
        rows=range(len(call)),
    )


def _first_row(call: Call) -> str:
    return (
        f"First prompt: {shown(call.inputs['prompts'][0], 500)}\n"
        f"First completion: {shown(call.inputs['completions'][0], 500)}"
    )


def _is_async(function: RewardFunc) -> bool:
    with suppress(Exception):  # an object of the user's may raise anything
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004
        )
    return False
