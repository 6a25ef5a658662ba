"""Requests to end: finish the iteration, save, and leave with 128 + the signal's number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cory.io.signals import Interruption, Stopped
from cory.rewards.calling import RewardError
from cory.training.checkpoint import Checkpoints
from tests.tiny_runs import records, same_bits, share_of_letters, snapshot, trainer


@pytest.fixture(autouse=True)
def signals_as_in_a_shell() -> Iterator[None]:
    """Signals act, even where these tests were started by `nohup` or in the background."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def signalling(*numbers: int) -> Any:
    """A reward that sends signals to its own process, in the first call of the third iteration."""
    calls = 0

    def share_of_letters_too(**inputs: Any) -> list[float]:
        nonlocal calls
        calls += 1
        if calls == 2 * 2 + 1:
            for number in numbers:
                os.kill(os.getpid(), number)
        return share_of_letters(**inputs)

    share_of_letters_too.__name__ = share_of_letters.__name__
    return share_of_letters_too


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_saves_and_nothing_is_lost(
    name: str, tiny_gpt2_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a pre-empted run that begins again, or goes on differently than without a signal."""
    number = getattr(signal, name)
    before = signal.getsignal(number)
    options: dict[str, Any] = {"max_steps": 5, "num_ppo_epochs": 1}
    stopped = trainer(tiny_gpt2_dir, tmp_path / "a", signalling(number), **options)
    with pytest.raises(Stopped) as caught:
        stopped.train()
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before, "a program's own handlers are its own again"
    assert Checkpoints(tmp_path / "a", limit=None).steps() == [3]
    told = capfd.readouterr().err
    assert f"cory: {name}: will save after this iteration and stop" in told
    assert "step-3; --resume goes on there" in told
    resumed = trainer(tiny_gpt2_dir, tmp_path / "a", resume=True, **options)
    resumed.train()
    whole = trainer(tiny_gpt2_dir, tmp_path / "b", **options)
    whole.train()
    assert records(tmp_path / "a") == records(tmp_path / "b")
    assert all(map(same_bits, map(snapshot, resumed.agents), map(snapshot, whole.agents)))


def test_a_second_signal_stops_at_once(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a reward function that hangs from keeping a process that is asked to end."""
    reward = signalling(signal.SIGTERM, signal.SIGINT)
    team = trainer(tiny_gpt2_dir, tmp_path, reward, max_steps=5, save_steps=2)
    with pytest.raises(Stopped) as caught:
        team.train()
    assert caught.value.code == 130
    assert Checkpoints(tmp_path, limit=None).steps() == [2]
    assert [line["step"] for line in records(tmp_path)] == [1, 2]


def test_an_ignored_signal_stays_ignored() -> None:
    """Prevents `nohup cory train` from stopping when the terminal goes."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption("will stop") as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.requested is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_changes() -> None:
    """Prevents "signal only works in main thread" where somebody trains in a thread."""
    failures: list[BaseException] = []

    def work() -> None:
        with Interruption("will stop") as interruption:
            assert interruption.requested is None

    thread = threading.Thread(target=work)
    threading.excepthook, before = (
        lambda told: failures.append(told.exc_value),
        (threading.excepthook),
    )
    thread.start()
    thread.join()
    threading.excepthook = before
    assert failures == []


def test_a_failure_after_a_signal_is_told(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an error from hiding behind a request to end that came before it."""
    polite = signalling(signal.SIGTERM)

    def broken(**inputs: Any) -> list[float]:
        rewards = polite(**inputs)
        return rewards if Path(tmp_path / "fine").exists() else rewards[1:]

    with pytest.raises(RewardError, match="values for 8 completions"):
        trainer(tiny_gpt2_dir, tmp_path / "run", broken, max_steps=5).train()


@pytest.mark.slow
def test_the_command_ends_with_the_documented_status(tmp_path: Path) -> None:
    """Prevents a scheduler that cannot tell a pre-empted run from a broken one."""
    run = tmp_path / "run"
    words = (
        "train --task pocket-arithmetic --use_cpu --batch_size 4 --max_steps 2000 --save_steps 3"
    )
    command = [sys.executable, "-m", "cory", *words.split(), "--output_dir", str(run)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(run.glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=200)
    assert process.returncode == 143, told
    assert "Traceback" not in told
    newest = Checkpoints(run, limit=None).newest_sound()
    assert newest is not None
    assert f"saved {newest}" in told
    assert records(run)[-1]["step"] == int(newest.name.removeprefix("step-"))


CHILD = """
import sys, time
from cory.io.signals import Interruption, end_with_the_parent
with Interruption("will end") as interruption:
    end_with_the_parent()
    assert sys.stdin.read() == "", "standard input is empty, and nobody waits for it"
    print("ready", flush=True)
    while not interruption.requested:
        time.sleep(0.01)
print("asked to end", flush=True)
"""
PARENT = """
import os, subprocess, sys, time
from cory.io.signals import ON_A_LINE, lifeline
with lifeline() as line:
    command = [sys.executable, "-c", sys.argv[1]]
    child = subprocess.Popen(command, stdin=line, env={**os.environ, ON_A_LINE: "1"})
    time.sleep(600)
"""


def test_a_process_on_a_line_ends_with_the_one_that_started_it() -> None:
    """Prevents trainings that go on when kill -9 has ended the comparison that they are part of."""
    command = [sys.executable, "-c", PARENT, CHILD]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    assert parent.stdout.read() == "asked to end\n", "read to its end, when both have ended"
    parent.wait()
    parent.stdout.close()
