"""Answers that no vLLM gives: each is one error that says what was wrong, in bounded time."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import httpx2
import pytest

from cory.config import CORYConfig
from cory.generation.vllm.answers import NoAnswerError, ServerError
from cory.generation.vllm.server import Completion, RetryPolicy, Server

VOCABULARY = 100


def answering(content: bytes, status: int = 200, **headers: str) -> Server:
    """A server that says the same whatever it is asked."""
    server = Server("http://localhost:1", 2.0, VOCABULARY)

    def reply(request: httpx2.Request) -> httpx2.Response:
        # As a stream it is unpacked by whoever reads it.
        return httpx2.Response(status, headers=headers, stream=httpx2.ByteStream(content))

    server.client = httpx2.Client(
        base_url=server.base_url, transport=httpx2.MockTransport(reply), headers={}
    )
    return server


def complete(server: Server) -> Completion:
    return server.complete("base", [5, 6], 4, 1.0, seed=2, end_ids=[1])


def choice(**changes: Any) -> bytes:
    made = {"token_ids": [5, 1], "logprobs": {"token_logprobs": [-1.0, 0]}, "finish_reason": "stop"}
    return json.dumps({"choices": [made | changes]}).encode()


def logprobs(*numbers: Any) -> bytes:
    return choice(logprobs={"token_logprobs": list(numbers)})


def test_a_sound_answer_passes() -> None:
    """Prevents a check that refuses what servers say."""
    assert complete(answering(choice())) == Completion([5, 1], [-1.0, 0.0])
    assert complete(answering(logprobs(-1, 1e-7))) == Completion([5, 1], [-1.0, 0.0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            choice(token_ids=[5, None]),
            r"token_ids\[1\]=None: .* whole number from 0 to 99",
        ),
        (choice(token_ids=[-1, 1]), r"token_ids\[0\]=-1"),
        (choice(token_ids=[5, 100]), r"token_ids\[1\]=100: .* 0 to 99"),
        (choice(token_ids=[5, 10**30]), r"token_ids\[1\]=1000"),
        (choice(token_ids=["5", 1]), r"token_ids\[0\]='5'"),
        (choice(token_ids=[5.0, 1]), r"token_ids\[0\]=5.0"),
        (choice(token_ids=[True, 1]), r"token_ids\[0\]=True"),
        (choice(token_ids="51"), r"token_ids='51', of the wrong kind"),
        (choice(token_ids=None), r"token_ids=None, of the wrong kind"),
        (choice(token_ids=[]), r"0 token ids with 2 log-probabilities"),
        (choice(token_ids=[5] * 5, logprobs={"token_logprobs": [-1.0] * 5}), r"max_tokens=4"),
        (choice(token_ids=[5]), r"1 token ids with 2 log-probabilities"),
        (logprobs(None, -1), r"token_logprobs\[0\]=None: it must be a finite number, not above 0"),
        (logprobs(-1, float("-inf")), r"token_logprobs\[1\]=-inf"),
        (logprobs(-(10**400), -1), r"token_logprobs\[0\]=-1000"),
        (logprobs(-1e308, -1), r"token_logprobs\[0\]=-1e\+308"),
        (logprobs(-1, float("nan")), r"token_logprobs\[1\]=nan"),
        (logprobs(-1, 0.5), r"token_logprobs\[1\]=0.5"),
        (logprobs(-1, "-1"), r"token_logprobs\[1\]='-1'"),
        (logprobs(-1, True), r"token_logprobs\[1\]=True"),
        (choice(logprobs=None), r"logprobs=None, of the wrong kind"),
        (choice(finish_reason=7), r"finish_reason=7, of the wrong kind"),
        (b'{"choices": []}', r"choices\[0\]=None"),
        (b'{"choices": [[]]}', r"choices\[0\]=\[\]"),
        (b'{"choices": {}}', r"choices=\{\}"),
        (b"{}", r"without choices"),
        (b"[]", r"holds a JSON list"),
        (b"", r"is not JSON"),
        (b"\xff\xfe", r"is not JSON"),
        (b"[" * 100_000, r"nested too deep"),
        (b'{"choices": [{"finish_reason": "stop"}]}', r"without token_ids"),
    ],
)
def test_a_completion_that_is_none(content: bytes, message: str) -> None:
    """Prevents an index error in the model, training on nan, and tokens that nobody asked for."""
    with pytest.raises(ServerError, match=rf"server at http://localhost:1 answered .*{message}"):
        complete(answering(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [{"id": "base", "max_model_len": 9}]}', r"without parent of 'base'"),
        (b'{"data": [{"id": "base", "parent": null}]}', r"without max_model_len of 'base'"),
        (
            b'{"data": [{"id": "b", "parent": null, "max_model_len": 0.5}]}',
            r"max_model_len .*0.5",
        ),
        (b'{"data": [{"id": "b", "parent": null, "max_model_len": -1}]}', r"max_model_len .* -1"),
        (b'{"data": [{"id": "b", "parent": 7}]}', r"parent of 'b'=7"),
        (b'{"data": [{"id": 7, "parent": null}]}', r"data\[0\].id=7"),
        (b'{"data": [7]}', r"data\[0\]=7"),
        (b'{"data": []}', r"serves no base, only nothing"),
        (b'{"data": null}', r"data=None"),
        (b"null", r"JSON null"),
        (b"<html>", r"is not JSON"),
    ],
)
def test_a_list_of_models_that_is_none(content: bytes, message: str) -> None:
    """Prevents a KeyError or a StopIteration where another server listens."""
    with pytest.raises(ServerError, match=message):
        answering(content).base()


def test_what_cannot_be_unpacked() -> None:
    """Prevents a traceback about zlib."""
    server = answering(b"no gzip", **{"content-encoding": "gzip"})
    with pytest.raises(ServerError, match=r"answered /v1/completions with what cannot be unpacked"):
        complete(server)


def test_an_answer_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a server from filling the memory."""
    monkeypatch.setattr("cory.generation.vllm.exchange.MAX_ANSWER_BYTES", 1000)
    with pytest.raises(ServerError, match=r"with more than 1,000 bytes"):
        complete(answering(b" " * 1001))


@contextmanager
def dripping(begin: bytes) -> Iterator[str]:
    """A server that says `begin`, and then a byte five times a second."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(begin)
                for _ in range(50):
                    time.sleep(0.2)
                    connection.sendall(b"x")

        thread = threading.Thread(target=lambda: _until_closed(serve), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def _until_closed(serve: Any) -> None:
    with suppress(OSError):
        serve()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("begin", [HEAD + b"X-Slow: ", HEAD + b"Content-Length: 999\r\n\r\n"])
def test_the_time_limit_is_that_of_the_whole_request(begin: bytes) -> None:
    """Prevents a server that sends a byte now and then from holding a training for ever."""
    with dripping(begin) as url:
        started = time.monotonic()
        with pytest.raises(NoAnswerError, match=r"no complete answer after 1 seconds"):
            complete(Server(url, request_timeout=1.0))
        assert time.monotonic() - started < 2.5


def test_no_message_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a password from ending up in a log, or in a report that is mailed."""
    url = "http://me:secret@127.0.0.1:1"
    server = Server(url, 0.5)
    retry = RetryPolicy(0.0, server.base_url)
    with pytest.raises(NoAnswerError) as none:
        complete(server)
    with pytest.raises(ServerError) as lost:
        retry.wait(none.value)
    with pytest.raises(ValueError, match="leave /v1 away") as refused:
        CORYConfig(vllm_server_base_url=f"{url}/v1")
    with pytest.raises(ValueError, match="not the address") as misspelt:
        CORYConfig(vllm_server_base_url="ftp://me:x#secret/@host")
    texts = [*map(str, (none.value, lost.value, refused.value, misspelt.value)), server.base_url]
    assert "secret" not in "".join(texts) + capsys.readouterr().err
    assert server.client.base_url.password == "secret"


def test_a_redirection_is_not_followed() -> None:
    """Prevents prompts from going to another place than the user named."""
    server = answering(b"", 307, Location="http://me:secret@elsewhere/x")
    with pytest.raises(ServerError, match=r"sends on to 'http://.*/x', which cory does not follow"):
        complete(server)
    with pytest.raises(ServerError, match="sends on to"):
        server.models()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://h:1"),
        ("HTTP_PROXY", "http://[::1"),
        ("SSL_CERT_FILE", "/nonexistent"),
    ],
)
def test_an_environment_that_is_none(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Prevents a traceback of a library about a variable that the user has forgotten."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"proxies \(HTTP_PROXY, .*SSL_CERT_FILE\) cannot be used"):
        Server("http://localhost:1", 1.0)
    monkeypatch.undo()
    monkeypatch.setenv("VLLM_API_KEY", "a\nb")
    with pytest.raises(ValueError, match="VLLM_API_KEY has characters"):
        Server("http://localhost:1", 1.0)


@pytest.mark.parametrize(
    "url",
    [
        *("http://[::1", "http://a b:80", "http://host:99999", "http://\0"),
        *(f"http://{'a' * 64}:80", "http://host?x=1", "http://host:80#x"),
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    """Prevents an error of a library that is no ValueError."""
    with pytest.raises(ValueError, match=r"vllm_server_base_url=.* address of a server"):
        Server(CORYConfig(vllm_server_base_url=url).vllm_server_base_url or "", 1.0)
