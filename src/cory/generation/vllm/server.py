"""HTTP client of a vLLM server, and how long to wait for one that does not answer. No torch."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx2

from cory.io.errors import CoryRuntimeError
from cory.io.terminal import say

SHORT_REQUEST = 10.0
"""Seconds to connect, or to answer a question that takes no computing."""
WHOLE_DISTRIBUTION = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Said aloud, as a server would take what is unsaid from the model's generation_config.json."""


class ServerLostError(CoryRuntimeError):
    """The server has not answered within `vllm_server_timeout`."""


class NoAnswerError(Exception):
    """There was no usable answer this time; there may be one later."""


class Completion(NamedTuple):
    """One response: token ids, the end-of-sequence token included, and their log-probabilities."""

    token_ids: list[int]
    logprobs: list[float]


class Server:
    """A vLLM server's completions and LoRA endpoints.

    Args:
        base_url: http://HOST:PORT.
        request_timeout: seconds that one completion may take.
        stop_strings: texts that end a response and stay part of it.
    """

    def __init__(
        self, base_url: str, request_timeout: float, stop_strings: Sequence[str] = ()
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.stops: dict[str, Any] = {}
        if stop_strings:
            self.stops = {"stop": list(stop_strings), "include_stop_str_in_output": True}
        key = os.environ.get("VLLM_API_KEY")
        self.client = httpx2.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(request_timeout, connect=SHORT_REQUEST),
            limits=httpx2.Limits(max_connections=None),
        )
        weakref.finalize(self, self.client.close)

    def models(self) -> dict[str, dict[str, Any]]:
        """What is served, by name: the base, whose `parent` is None, and adapters.

        Raises:
            NoAnswerError: the server is not up.
            ValueError: it is no vLLM server.
        """
        response = self._request("GET", "/v1/models", timeout=SHORT_REQUEST)
        if response.status_code >= 500:
            raise NoAnswerError(_what(response))
        try:
            return {card["id"]: card for card in response.json()["data"]}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.base_url} does not answer like a vLLM server: {response.text[:200]!r}. "
                "vllm_server_base_url must be http://HOST:PORT of `vllm serve`"
            ) from error

    def is_healthy(self) -> bool:
        """Whether the engine behind the server works."""
        try:
            return self.client.get("/health", timeout=SHORT_REQUEST).is_success
        except httpx2.TransportError:
            return False

    def load_adapter(self, name: str, path: str) -> None:
        """Serve the adapter in a directory under a name.

        Raises:
            NoAnswerError: the server is down.
            ValueError: the server is up and will not; the message has the fix.
        """
        response = self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
        if response.is_success or name in self.models():
            return
        if response.status_code >= 500 and not self.is_healthy():
            raise NoAnswerError(_what(response))
        raise ValueError(
            f"the vLLM server at {self.base_url} does not load the adapter in {path}: "
            f"{_what(response)}. Start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora"
            " and a --max-lora-rank of at least lora_r (with evaluate_merged: times num_agents), "
            "and set vllm_adapter_dir to a directory that it sees under the same path; "
            "docs/how-to/vllm.md says more"
        )

    def unload_adapter(self, name: str) -> None:
        """Serve an adapter no longer; one that is not served is none either.

        Raises:
            NoAnswerError: the server is down.
        """
        response = self._post("/v1/unload_lora_adapter", {"lora_name": name})
        if not response.is_success and response.status_code != 404:
            raise NoAnswerError(_what(response))

    def complete(
        self,
        model: str,
        prompt_ids: list[int],
        max_tokens: int,
        temperature: float,
        seed: int,
        end_ids: list[int],
    ) -> Completion:
        """One response to one prompt, drawn from the whole distribution.

        Args:
            model: name of the base or of an adapter.
            seed: of this response, 63 bits.
            end_ids: token ids that end a response.

        Raises:
            NoAnswerError: the server is down, too slow, or no longer serves the model.
            ValueError: it refuses the prompt, or does not return token ids.
        """
        response = self._post(
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
                **WHOLE_DISTRIBUTION,
            },
        )
        if response.status_code >= 500 or response.status_code in (404, 429):
            raise NoAnswerError(_what(response))
        if not response.is_success:
            raise ValueError(f"the vLLM server at {self.base_url} refused: {_what(response)}")
        return self._read(response)

    def _read(self, response: httpx2.Response) -> Completion:
        try:
            choice = response.json()["choices"][0]
            finish_reason = choice["finish_reason"]
            completion = Completion(choice["token_ids"], choice["logprobs"]["token_logprobs"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"the vLLM server at {self.base_url} answered without token_ids and logprobs: "
                f"{response.text[:200]!r}. Use a vLLM that knows return_token_ids (0.10.2 or newer)"
            ) from error
        if finish_reason not in ("stop", "length"):
            raise NoAnswerError(f"the answer was broken off (finish_reason={finish_reason!r})")
        if not completion.token_ids or len(completion.token_ids) != len(completion.logprobs):
            raise ValueError(
                f"the vLLM server at {self.base_url} answered {len(completion.token_ids)} token "
                f"ids with {len(completion.logprobs)} log-probabilities: both must be of one "
                "length, and not 0"
            )
        return completion

    def _post(self, path: str, body: dict[str, Any]) -> httpx2.Response:
        return self._request("POST", path, json=body)

    def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            response = self.client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise NoAnswerError(f"{type(error).__name__}: {error}") from error
        if response.status_code in (401, 403):
            raise ValueError(
                f"the vLLM server at {self.base_url} wants a key: put what its --api-key says into "
                "the environment variable VLLM_API_KEY"
            )
        return response


def _what(response: httpx2.Response) -> str:
    """A refusal in the server's own words."""
    try:
        message = response.json()["error"]["message"]
    except (KeyError, TypeError, ValueError):
        message = response.text
    return f"{response.status_code} {message[:500]}"


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
