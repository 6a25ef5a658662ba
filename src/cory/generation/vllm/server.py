"""HTTP client of a vLLM server, and how long to wait for one that does not answer. No torch."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx2

from cory.generation.vllm.answers import (
    Completion,
    NoAnswerError,
    ServerError,
    base_of,
    read_completion,
    read_models,
)
from cory.generation.vllm.exchange import SHORT_REQUEST, Reply, exchange
from cory.io.terminal import say
from cory.io.urls import without_password

WHOLE_DISTRIBUTION = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
}
NO_PENALTIES = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Said aloud, as a server would take what is unsaid from the model's generation_config.json."""


T = TypeVar("T")


class ServerLostError(ServerError):
    """The server has not answered within `vllm_server_timeout`."""


class Server:
    """A vLLM server's completions and LoRA endpoints.

    Args:
        base_url: http://HOST:PORT.
        request_timeout: seconds that one completion may take.
        vocabulary_size: of the model; token ids are below it.
        stop_strings: texts that end a response and stay part of it.
        filters: `top_p`, `top_k` and `min_p` of sampling.

    Raises:
        ValueError: `base_url` is no address, or the environment names no usable proxy.
    """

    def __init__(
        self,
        base_url: str,
        request_timeout: float,
        vocabulary_size: int = 2**31,
        stop_strings: Sequence[str] = (),
        filters: Mapping[str, float] = WHOLE_DISTRIBUTION,
    ) -> None:
        self.base_url = without_password(base_url.rstrip("/"))
        self.request_timeout = request_timeout
        self.vocabulary_size = vocabulary_size
        self.filters = dict(filters)
        self.stops: dict[str, Any] = {}
        if stop_strings:
            self.stops = {"stop": list(stop_strings), "include_stop_str_in_output": True}
        try:
            httpx2.URL(base_url)
        except httpx2.InvalidURL as error:
            raise ValueError(
                f"vllm_server_base_url={self.base_url!r:.300} is no address of a server ({error}): "
                "write it like http://localhost:8000"
            ) from error
        try:
            self.client = self._connect(base_url.rstrip("/"))
        except (httpx2.InvalidURL, ImportError, OSError, ValueError) as error:
            raise ValueError(
                "the environment's proxies (HTTP_PROXY, ALL_PROXY, NO_PROXY) or certificates "
                f"(SSL_CERT_FILE) cannot be used: {error}. Unset or correct them"
            ) from error
        weakref.finalize(self, self.client.close)

    def _connect(self, url: str) -> httpx2.Client:
        key = os.environ.get("VLLM_API_KEY", "")
        if not (key.isascii() and key.isprintable()):
            raise ValueError("VLLM_API_KEY has characters that no key has")
        return httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(self.request_timeout, connect=SHORT_REQUEST),
            limits=httpx2.Limits(max_connections=None),
        )

    def models(self) -> dict[str, dict[str, Any]]:
        """What is served, by name: the base, whose `parent` is None, and adapters.

        Raises:
            NoAnswerError: the server is not up.
            ValueError: it is no vLLM server.
            ServerError: what it says is no list of models.
        """
        reply = self._request("GET", "/v1/models", seconds=SHORT_REQUEST)
        if reply.status >= 500:
            raise NoAnswerError(str(reply))
        if not reply.is_success:
            raise ValueError(
                f"{self.base_url} does not answer like a vLLM server: {reply}. "
                "vllm_server_base_url must be http://HOST:PORT of `vllm serve`"
            )
        return self._read(lambda: read_models(reply.content))

    def base(self) -> tuple[str, int]:
        """The name of the base, and how many tokens it reads.

        Raises:
            NoAnswerError: the server is not up.
            ValueError: it is no vLLM server.
            ServerError: it says neither.
        """
        models = self.models()
        return self._read(lambda: base_of(models))

    def is_healthy(self) -> bool:
        """Whether the engine behind the server works."""
        try:
            return self._request("GET", "/health", seconds=SHORT_REQUEST).is_success
        except (NoAnswerError, ServerError, ValueError):
            return False

    def load_adapter(self, name: str, path: str) -> None:
        """Serve the adapter in a directory under a name.

        Raises:
            NoAnswerError: the server is down.
            ValueError: the server is up and will not; the message has the fix.
        """
        reply = self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
        if reply.is_success or name in self.models():
            return
        if reply.status >= 500 and not self.is_healthy():
            raise NoAnswerError(str(reply))
        raise ValueError(
            f"the vLLM server at {self.base_url} does not load the adapter in {path}: "
            f"{reply}. Start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora"
            " and a --max-lora-rank of at least lora_r (with evaluate_merged: times num_agents), "
            "and set vllm_adapter_dir to a directory that it sees under the same path; "
            "docs/how-to/vllm.md says more"
        )

    def unload_adapter(self, name: str) -> None:
        """Serve an adapter no longer; one that is not served is none either.

        Raises:
            NoAnswerError: the server is down.
        """
        reply = self._post("/v1/unload_lora_adapter", {"lora_name": name})
        if not reply.is_success and reply.status != 404:
            raise NoAnswerError(str(reply))

    def complete(
        self,
        model: str,
        prompt_ids: list[int],
        max_tokens: int,
        temperature: float,
        seed: int,
        end_ids: list[int],
    ) -> Completion:
        """One response to one prompt, drawn from the distribution that the filters leave.

        Args:
            model: name of the base or of an adapter.
            seed: of this response, 63 bits.
            end_ids: token ids that end a response.

        Raises:
            NoAnswerError: the server is down, too slow, or no longer serves the model.
            ValueError: it refuses the prompt.
            ServerError: what it answers is no response to it.
        """
        reply = self._post(
            "/v1/completions",
            {
                "model": model,
                "prompt": prompt_ids,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "seed": seed,
                "stop_token_ids": end_ids,
                **self.stops,
                "ignore_eos": True,
                "logprobs": 0,
                "return_token_ids": True,
                **self.filters,
                **NO_PENALTIES,
            },
        )
        if reply.status >= 500 or reply.status in (404, 429):
            raise NoAnswerError(str(reply))
        if not reply.is_success:
            raise ValueError(f"the vLLM server at {self.base_url} refused: {reply}")
        return self._read(lambda: read_completion(reply.content, max_tokens, self.vocabulary_size))

    def _read(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except ServerError as error:
            raise ServerError(f"the vLLM server at {self.base_url} {error}") from error

    def _post(self, path: str, body: dict[str, Any]) -> Reply:
        return self._request("POST", path, seconds=self.request_timeout, json=body)

    def _request(self, method: str, path: str, seconds: float, **options: Any) -> Reply:
        """One request and its whole answer, within so many seconds."""
        reply = self._read(lambda: exchange(self.client, method, path, seconds, **options))
        if reply.status in (401, 403):
            raise ValueError(
                f"the vLLM server at {self.base_url} wants a key: put what its --api-key says into "
                "the environment variable VLLM_API_KEY"
            )
        return reply


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
