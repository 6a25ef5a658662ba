"""The Hub out of reach: one message at once, and no change where it can be reached."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from cory.io import hub
from cory.io.hub import asking_the_hub
from cory.models.loading import load_tokenizer


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub._connect.cache_clear()
    yield
    hub._connect.cache_clear()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_without_a_network_a_load_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a minute of retries for each name that is not here."""
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port()}")

    def sleep(seconds: float) -> None:
        pytest.fail(f"the client waits for {seconds} s")

    monkeypatch.setattr("time.sleep", sleep)
    with pytest.raises(ValueError, match="'nobody/nothing': We couldn't connect to"):
        load_tokenizer("nobody/nothing")
    assert constants.HF_HUB_OFFLINE is False, "the network may come back"


def test_where_it_can_be_reached_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    """Prevents a real load that is kept from the Hub, or is made to wait twice."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        for _ in range(2):
            with asking_the_hub("owner/name"):
                assert constants.HF_HUB_OFFLINE is False
        server.accept()[0].close()
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with asking_the_hub(str(tmp_path)):
        assert constants.HF_HUB_OFFLINE is False, "a directory needs no Hub"
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:3128"})
    with asking_the_hub("owner/name"):
        assert constants.HF_HUB_OFFLINE is False, "only the proxy knows"
