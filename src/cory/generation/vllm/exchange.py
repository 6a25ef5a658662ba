"""One request to a server and its whole answer, within a time and a size."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import httpx2

from cory.generation.vllm.answers import NoAnswerError, ServerError, refusal

T = TypeVar("T")
MAX_ANSWER_BYTES = 64_000_000
"""Of one answer; 100,000 tokens with their log-probabilities are a twentieth of it."""
SHORT_REQUEST = 10.0
"""Seconds to connect, or to answer a question that takes no computing."""


class Reply(NamedTuple):
    """Status and body of an answer, complete."""

    status: int
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"{self.status} {refusal(self.content)}"


def exchange(
    client: httpx2.Client, method: str, path: str, seconds: float, **options: Any
) -> Reply:
    """Ask, and read the answer to its end.

    Raises:
        NoAnswerError: nobody is there, or the answer is not complete after so many seconds.
        ServerError: the answer is too large, cannot be unpacked, or is a redirection.
    """
    ends, content = time.monotonic() + seconds, bytearray()
    limits = httpx2.Timeout(seconds, connect=min(seconds, SHORT_REQUEST))

    def ask() -> Reply:
        with client.stream(method, path, timeout=limits, **options) as response:
            if response.is_redirect:
                place = response.headers.get("location", "")
                raise ServerError(f"sends on to {place!r:.300}, which cory does not follow")
            for piece in response.iter_bytes():
                content.extend(piece)
                if len(content) > MAX_ANSWER_BYTES:
                    raise ServerError(f"answered {path} with more than {MAX_ANSWER_BYTES:,} bytes")
                if time.monotonic() > ends:
                    raise NoAnswerError("nobody waits for it any more")
        return Reply(response.status_code, bytes(content))

    try:
        return _within(seconds, ask)
    except httpx2.DecodingError as error:
        raise ServerError(f"answered {path} with what cannot be unpacked: {error}") from error
    except httpx2.RequestError as error:
        raise NoAnswerError(f"{type(error).__name__}: {error}") from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What a call returns or raises; after so many seconds it is left behind in its thread.

    The client's own limits are per read: a byte now and then makes an answer endless.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised again by whoever waits
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError as error:
        raise NoAnswerError(f"no complete answer after {seconds:g} seconds") from error
