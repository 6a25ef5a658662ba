"""How long to wait for a server that does not answer, and how often to ask. No torch."""

from __future__ import annotations

import time

from cory.generation.vllm.server import NoAnswerError, ServerLostError
from cory.io.terminal import say

SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
"""Seconds between two questions; the pause doubles from the one to the other."""


class RetryPolicy:
    """Pauses between questions to a server, and an end to them.

    Args:
        seconds: without any answer after which the server counts as lost.
        base_url: of the server, for messages.
    """

    def __init__(self, seconds: float, base_url: str) -> None:
        self.seconds = seconds
        self.base_url = base_url
        self.reset()

    def reset(self) -> None:
        """The server has answered."""
        self.pause = SHORTEST_PAUSE
        self.since: float | None = None

    def wait(self, error: NoAnswerError) -> None:
        """Pause before the next question.

        Raises:
            ServerLostError: the last answer is too long ago.
        """
        now = time.monotonic()
        if self.since is None:
            self.since = now
            say(
                f"cory: the vLLM server at {self.base_url} does not answer ({error}); asking again "
                f"for {self.seconds:g} seconds"
            )
        left = self.since + self.seconds - now
        if left <= 0:
            raise ServerLostError(
                f"the vLLM server at {self.base_url} has not answered for {self.seconds:g} seconds "
                f"(vllm_server_timeout); its last word: {error}. Start it again, see its own log "
                "and docs/how-to/vllm.md, and continue this run with --resume"
            ) from error
        time.sleep(min(self.pause, left))
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
