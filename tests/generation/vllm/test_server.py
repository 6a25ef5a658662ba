"""What is said to a server, and how long one waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from cory.generation.vllm.exchange import Reply
from cory.generation.vllm.server import (
    Completion,
    NoAnswerError,
    RetryPolicy,
    Server,
    ServerLostError,
)
from tests.generation.vllm.servers import Running, fake_server, free_port

_REFUSED = Reply(400, b"{}")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with fake_server() as server:
        yield server


@pytest.fixture
def server(running: Running) -> Server:
    return Server(running.url, request_timeout=2.0)


def complete(server: Server, model: str = "base", prompt: tuple[int, ...] = (5, 6)) -> Completion:
    return server.complete(model, list(prompt), 4, 1.0, seed=2, end_ids=[1])


def test_token_ids_come_back_as_they_were_sampled(server: Server) -> None:
    """Prevents an answer that is made of text, or that has lost its end-of-sequence token."""
    assert complete(server) == Completion([5, 1], [-1.0, -2.0])
    assert server.models()["base"]["parent"] is None
    assert server.is_healthy()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("500", r"500 EngineCore encountered"),
        ("404", r"404 The model `base` does not exist"),
        ("abort", r"finish_reason='abort'"),
        ("hang", r"ReadTimeout|no complete answer after 2 seconds"),
    ],
)
def test_a_fault_may_pass(running: Running, server: Server, fault: str, message: str) -> None:
    """Prevents a run that ends because a server hiccuped once, or that takes half an answer."""
    running.meets(fault)
    with pytest.raises(NoAnswerError, match=message):
        complete(server)
    assert complete(server).token_ids == [5, 1]


def test_stop_strings_are_part_of_the_request(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a server that goes on, or that cuts a stop string out of the answer's text."""
    sent: list[dict[str, Any]] = []
    post = Server._post

    def noted(self: Server, path: str, body: dict[str, Any]) -> Any:
        sent.append(body)
        return post(self, path, body)

    monkeypatch.setattr(Server, "_post", noted)
    complete(server)
    complete(Server(server.base_url, 2.0, stop_strings=("\n\n", "Q:")))
    assert sent[1] == sent[0] | {"stop": ["\n\n", "Q:"], "include_stop_str_in_output": True}
    assert "stop" not in sent[0]


def test_the_filters_are_part_of_every_request(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a server that draws from another distribution than the one that is scored."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(Server, "_post", lambda self, path, body: sent.append(body) or _REFUSED)
    filters = {"top_p": 0.9, "top_k": 5, "min_p": 0.1}
    for asked in (server, Server(server.base_url, 2.0, filters=filters)):
        with pytest.raises(ValueError, match="refused"):
            complete(asked)
    assert {name: sent[0][name] for name in filters} == {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
    assert sent[1] == sent[0] | filters


def test_a_server_that_is_not_there() -> None:
    """Prevents an error of a library where there is nobody yet."""
    server = Server(f"http://127.0.0.1:{free_port()}", request_timeout=2.0)
    with pytest.raises(NoAnswerError, match="ConnectError"):
        complete(server)
    with pytest.raises(NoAnswerError, match="ConnectError"):
        server.models()
    assert not server.is_healthy()


def test_what_will_not_pass_is_an_error_at_once(running: Running, server: Server) -> None:
    """Prevents waiting minutes for a server that has said no."""
    with pytest.raises(ValueError, match=r"refused: 400 This model's maximum context length"):
        complete(server, prompt=(5,) * 600)
    with pytest.raises(ValueError, match=r"does not answer like a vLLM server.* http://HOST:PORT"):
        Server(f"{running.url}/fake/not", 2.0).models()


def test_unloading_twice_is_unloading_once(server: Server) -> None:
    """Prevents a run that ends because a restarted server has forgotten an adapter."""
    server.unload_adapter("agent_0-never-loaded")


def test_adapters_must_be_welcome() -> None:
    """Prevents minutes of waiting for a server that was started without adapters."""
    with fake_server("--no_lora") as running:
        server = Server(running.url, 2.0)
        with pytest.raises(ValueError, match=r"404 .*VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --ena"):
            server.load_adapter("agent_0", "adapters/agent_0")


def test_a_key_is_sent_and_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a server with --api-key from looking like one that is down."""

    def guarded(request: httpx2.Request) -> httpx2.Response:
        is_known = request.headers.get("Authorization") == "Bearer sesame"
        return httpx2.Response(200 if is_known else 401, json={"data": []})

    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    closed = Server("http://localhost:1", 2.0)
    closed.client = httpx2.Client(
        base_url=closed.base_url,
        headers=closed.client.headers,
        transport=httpx2.MockTransport(guarded),
    )
    with pytest.raises(ValueError, match=r"wants a key: .*VLLM_API_KEY"):
        closed.models()
    monkeypatch.setenv("VLLM_API_KEY", "sesame")
    opened = Server("http://localhost:1", 2.0)
    opened.client = httpx2.Client(
        base_url=opened.base_url,
        headers=opened.client.headers,
        transport=httpx2.MockTransport(guarded),
    )
    assert opened.models() == {}


def test_patience_doubles_its_pauses_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a server from being asked a thousand times a second, and a wait without end."""
    now, pauses = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    patience = RetryPolicy(40.0, "http://localhost:8000")
    error = NoAnswerError("500 out of order")
    for _ in range(7):
        patience.wait(error)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 9.5]
    with pytest.raises(ServerLostError, match=r"not answered for 40 seconds .*500 out of order"):
        patience.wait(error)
    patience.reset()
    patience.wait(error)
    assert pauses[-1] == 0.5
    assert capsys.readouterr().err.count("does not answer (500 out of order)") == 2
