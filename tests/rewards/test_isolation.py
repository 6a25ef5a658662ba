"""What a reward function changes is its own: inputs, working directory, global state of torch."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cory.io.terminal import say
from cory.rewards.calling import RewardError
from cory.rewards.failures import RewardFailures
from cory.rewards.isolation import copied
from cory.rewards.loading import load_reward_funcs
from cory.rewards.scoring import RewardScorer, Scores


def score(*functions: Any, timeout: float | None = None, limit: int = 0) -> Scores:
    """Of four answers to one query, whose row they share."""
    prompt = [{"role": "user", "content": "p"}]
    row = {"prompt": prompt, "gold": list(range(10)), "deep": {"x": [1]}}
    scorer = RewardScorer(functions, failures=RewardFailures(limit, timeout))
    return scorer.score([row] * 4, ["a", "bb", "ccc", "dddd"], [[1], [2], [3], [4]])


def pops(gold: list[list[int]], **columns: Any) -> list[float]:
    return [float(row.pop()) for row in gold]


async def pops_later(gold: list[list[int]], **columns: Any) -> list[float]:
    await asyncio.sleep(0)
    return pops(gold)


def empties(
    prompts: Any, completions: Any, completion_ids: Any, deep: Any, **columns: Any
) -> list[float]:
    for column in (prompts, completions, completion_ids, deep):
        for cell in column:
            cell.clear()
        column.clear()
    return [0.0] * 4


def measures(
    prompts: Any, completions: Any, completion_ids: Any, deep: Any, **columns: Any
) -> list[float]:
    cells = zip(prompts, completions, completion_ids, deep, strict=True)
    return [
        len(prompt[0]["content"]) + len(answer[0]["content"]) + len(ids) + sum(cell["x"])
        for prompt, answer, ids, cell in cells
    ]


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_each_call_has_inputs_of_its_own(timeout: float | None) -> None:
    """Prevents copies of a row from being paid 9, 8, 7, 6, and a judge of an empty answer."""
    for functions in ((pops, pops_later, empties, measures), (measures, empties, pops, pops_later)):
        paid = score(*functions, timeout=timeout).by_function
        assert paid["pops"].tolist() == paid["pops_later"].tolist() == [9] * 4
        assert paid["measures"].tolist() == [4, 5, 6, 7]


def test_a_second_try_is_given_what_the_first_was() -> None:
    """Prevents a function that fails half-way from judging what it has left over."""
    calls = 0

    def fails_once(gold: list[list[int]], **columns: Any) -> list[float]:
        nonlocal calls
        calls += 1
        paid = pops(gold)
        if calls == 1:
            raise TimeoutError
        return paid

    assert score(fails_once, limit=1).total.tolist() == [9] * 4


def test_what_cannot_be_copied_is_shared(tmp_path: Path) -> None:
    """Prevents a failure at a column of objects such as open files."""
    with (tmp_path / "file").open("w") as file:
        cell = {"file": file, "array": torch.ones(2), "pair": ([1], 2)}
        own = copied(cell)
    assert own["file"] is file
    assert own["array"] is not cell["array"]
    assert own["pair"][0] is not cell["pair"][0]


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "directory": (lambda: os.chdir("/"), Path.cwd),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "threads": (lambda: torch.set_num_threads(3), torch.get_num_threads),
    "autocast": (
        lambda: torch.set_autocast_enabled("cpu", True),
        lambda: torch.is_autocast_enabled("cpu"),
    ),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "inference": (lambda: torch.inference_mode().__enter__(), torch.is_inference_mode_enabled),
    "attention": (
        lambda: torch.backends.cuda.enable_math_sdp(False),
        torch.backends.cuda.math_sdp_enabled,
    ),
    "only warns": (
        lambda: torch.use_deterministic_algorithms(False, warn_only=True),
        torch.is_deterministic_algorithms_warn_only_enabled,
    ),
    "anomalies": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "warnings": (lambda: warnings.simplefilter("ignore"), lambda: warnings.filters[:]),
    "numpy": (lambda: np.seterr(all="raise"), np.geterr),
    "recursion": (lambda: sys.setrecursionlimit(10**5), sys.getrecursionlimit),
    "hook": (lambda: setattr(sys, "excepthook", None), lambda: sys.excepthook),
    "output": (lambda: setattr(sys, "stdout", io.StringIO()), lambda: sys.stdout),
    "signals": (
        lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        lambda: signal.getsignal(signal.SIGINT),
    ),
    "blocked signals": (
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    ),
}


@pytest.mark.parametrize("how", ["plain", "raises", "async", "in a module"])
@pytest.mark.parametrize("what", CHANGES)
def test_global_state_is_put_back(what: str, how: str, tmp_path: Path) -> None:
    """Prevents a judge from moving the run's files, or its numbers, to where they do not belong."""
    change, read = CHANGES[what]
    before = read()

    def judge(completions: list[Any], **columns: Any) -> list[float]:
        change()
        if how == "raises":
            raise ValueError
        return [1.0] * len(completions)

    async def judge_later(completions: list[Any], **columns: Any) -> list[float]:
        return judge(completions)

    if how == "in a module":
        module = sys.modules[__name__]
        (tmp_path / "judges.py").write_text(
            f"import sys\nsys.modules[{module.__name__!r}].CHANGES[{what!r}][0]()\n"
            "def judge(**columns): ...\n"
        )
        load_reward_funcs(f"{tmp_path / 'judges.py'}:judge")
    elif how == "raises":
        with pytest.raises(RewardError):
            score(judge)
    else:
        score(judge_later if how == "async" else judge)
    assert read() == before


def test_a_directory_that_is_gone_does_not_keep_the_run_from_its_own() -> None:
    """Prevents a judge that works in a temporary directory from taking the run along."""
    before = Path.cwd()

    def judge(completions: list[Any], **columns: Any) -> list[float]:
        with tempfile.TemporaryDirectory() as directory:
            os.chdir(directory)
        return [1.0] * len(completions)

    assert score(judge).total.tolist() == [1] * 4
    assert Path.cwd() == before


def test_an_alarm_ends_with_the_call_that_set_it() -> None:
    """Prevents a judge's own time limit, not taken back, from killing the run after the call."""
    before = signal.getitimer(signal.ITIMER_REAL)[0]

    def judge(completions: list[Any], **columns: Any) -> list[float]:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, before + 1000)
        return [1.0] * len(completions)

    assert score(judge).total.tolist() == [1] * 4
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= before


def test_a_working_directory_that_was_gone_before(tmp_path: Path) -> None:
    """Prevents FileNotFoundError, and lost work, where somebody tidied up under a run."""
    before = Path.cwd()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    try:
        (tmp_path / "gone").rmdir()
        assert score(measures).total.tolist() == [4, 5, 6, 7]
    finally:
        os.chdir(before)


def test_a_closed_stream_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents "I/O operation on closed file" from ending a run that only wants to say something.

    What is opened next would get its number, and messages would go into a file of the run.
    """
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def judge(completions: list[Any], **columns: Any) -> list[float]:
        sys.stderr.close()
        return [1.0] * len(completions)

    assert score(judge).total.tolist() == [1] * 4
    say("nobody reads this")
    with sys.stderr as stream:
        assert stream.name == os.devnull


@pytest.mark.parametrize("end", ["returns", "raises", "exits"])
def test_a_forked_process_does_not_train_on(end: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Prevents a second process of the same run, which removes files that the first is writing."""
    children: list[int] = []

    def judge(completions: list[Any], **columns: Any) -> list[float]:
        children.append(os.fork())
        if not children[-1]:
            assert end != "raises"
            if end == "exits":
                sys.exit(0)
        return [1.0] * len(completions)

    assert score(judge).total.tolist() == [1] * 4
    print("once")
    assert os.waitpid(children[0], 0)[1] == 0
    assert capfd.readouterr() == ("once\n", "")


def test_a_plain_function_may_hand_on_an_async_ones_answer() -> None:
    """Prevents "returned <coroutine object>" for a decorated async judge."""
    assert score(lambda **columns: pops_later(**columns)).total.tolist() == [9] * 4


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, StopIteration])
@pytest.mark.parametrize("is_async", [False, True])
def test_odd_exceptions_follow_the_rule(error: type[BaseException], is_async: bool) -> None:
    """Prevents exceptions that are no `Exception` from passing every rule."""

    def judge(**columns: Any) -> list[float]:
        raise error

    async def judge_later(**columns: Any) -> list[float]:
        raise error

    with pytest.raises(RewardError, match=r"raised (CancelledError|GeneratorExit|.*StopIteration)"):
        score(judge_later if is_async else judge)


def test_ctrl_c_ends_the_run() -> None:
    """Prevents a user's Ctrl-C from being one more failure of a judge."""

    def judge(**columns: Any) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(judge)
