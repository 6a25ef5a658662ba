"""Starting servers: a stand-in, or the real vLLM in the environment of `make vllm`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.generation.vllm.fake import Engine, FakeServer

ROOT = Path(__file__).resolve().parents[3]
SECONDS_TO_START = 600


@dataclass
class Running:
    """A server's address, and how to end it."""

    port: int
    kill: Callable[[], object]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def meets(self, *faults: str) -> None:
        """What the next completions of a stand-in meet; see `fake`."""
        httpx2.post(f"{self.url}/fake/faults", json=faults).raise_for_status()

    def served(self) -> list[str]:
        """Names of adapters."""
        cards = httpx2.get(f"{self.url}/v1/models").json()["data"]
        return [card["id"] for card in cards if card["parent"] is not None]


@contextmanager
def fake_server(*words: str, port: int = 0) -> Iterator[Running]:
    """A stand-in in a process of its own, which answers by the seed."""
    command = [sys.executable, "-m", "tests.generation.vllm.fake", "--port", str(port), *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Running(int(process.stdout.readline()), process.kill)
        finally:
            process.kill()


@contextmanager
def computing_server(model: Path, port: int = 0) -> Iterator[Running]:
    """A stand-in in a thread, which computes its answers: torch need not be loaded once more."""
    server = FakeServer(port, Engine(model), has_lora=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Running(server.server_address[1], server.die)
    finally:
        server.die()
        thread.join()


def real_python() -> str:
    """The interpreter that has vLLM; the test is skipped where there is none."""
    named = os.environ.get("CORY_TEST_VLLM")
    if named is not None:
        assert Path(named).is_file(), f"CORY_TEST_VLLM={named!r} must be a python, or unset"
        return named
    python = ROOT / ".venv-vllm" / "bin" / "python"
    if not python.is_file():
        pytest.skip("no vLLM: run `make vllm`, or set CORY_TEST_VLLM to a python that has it")
    return str(python)


@contextmanager
def real_server(model: Path, log: Path, port: int | None = None) -> Iterator[Running]:
    """The real vLLM on loopback, as docs/how-to/vllm.md starts it, for a tiny model."""
    python = real_python()
    port = port or free_port()
    command = [
        *(python, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(model)),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--enable-lora", "--max-loras", "2", "--max-lora-rank", "8"),
        *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"),
        *("--max-model-len", "256", "--max-num-seqs", "16", "--enforce-eager"),
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):

        def kill() -> None:
            """The server and the engine processes that it started."""
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

        try:
            running = Running(port, kill)
            _wait_until_up(running, process, log)
            yield running
        finally:
            kill()


def free_port() -> int:
    """A port that nobody listens to now."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait_until_up(running: Running, process: subprocess.Popen[str], log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        assert process.poll() is None, f"vLLM ended:\n{log.read_text()[-5000:]}"
        try:
            if httpx2.get(f"{running.url}/health", timeout=5).is_success:
                return
        except httpx2.TransportError:
            time.sleep(1)
    raise AssertionError(f"vLLM is not up after {SECONDS_TO_START} s:\n{log.read_text()[-5000:]}")
