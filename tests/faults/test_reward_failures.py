"""Reward functions that raise, hang, or return what is no reward: stop, or skip and count."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cory.rewards.calling import RewardError
from cory.rewards.failures import RewardFailures
from cory.rewards.scoring import RewardScorer, Scores
from cory.training.checkpoint import Checkpoints
from tests.tiny_runs import queries, records, same_bits, snapshot, trainer

ANSWERS = ["a", "bb", "ccc", "dddd"]


def score(failures: RewardFailures, *functions: Any, answers: list[str] = ANSWERS) -> Scores:
    ids = [[row] for row in range(len(answers))]
    rows = [{"prompt": f"p{row}", "gold": [row]} for row in range(len(answers))]
    return RewardScorer(functions, failures=failures).score(rows, answers, ids)


def length(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def chokes_on_three(completions: list[str], **columns: Any) -> list[float]:
    if "ccc" in completions:
        raise KeyError("three")
    return length(completions)


def drops_three(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions if text != "ccc"]


def exits_on_three(completions: list[str], **columns: Any) -> list[float]:
    if "ccc" in completions:
        sys.exit(0)
    return length(completions)


def is_too_large_on_three(completions: list[str], **columns: Any) -> list[Any]:
    return [-(10**400) if text == "ccc" else len(text) for text in completions]


class Unspeakable(BaseException):
    def __str__(self) -> str:
        raise ZeroDivisionError


async def raises_the_unspeakable(completions: list[str], **columns: Any) -> list[float]:
    if "ccc" in completions:
        raise Unspeakable
    return length(completions)


def is_infinite_on_three(completions: list[str], **columns: Any) -> list[float]:
    return [-math.inf if text == "ccc" else float(len(text)) for text in completions]


def is_text_on_three(completions: list[str], **columns: Any) -> list[Any]:
    return ["good" if text == "ccc" else float(len(text)) for text in completions]


async def chokes_later(completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(0)
    return chokes_on_three(completions)


FAULTY = {
    chokes_on_three: "raised KeyError: 'three'",
    chokes_later: "raised KeyError: 'three'",
    drops_three: "returned 3 values for 4 completions",
    exits_on_three: "raised SystemExit: 0",
    is_too_large_on_three: "returned -1000.*OverflowError.* for row 2",
    raises_the_unspeakable: "raised Unspeakable",
    is_infinite_on_three: "returned -inf for row 2",
    is_text_on_three: r"returned 'good' \(str\) for row 2",
}


@pytest.mark.parametrize("function", FAULTY, ids=lambda function: function.__name__)
def test_the_first_failure_stops_and_keeps_the_sample(function: Any, tmp_path: Path) -> None:
    """Prevents a search for the one answer of thousands on which a judge breaks."""
    with pytest.raises(RewardError, match=FAULTY[function]) as caught:
        score(RewardFailures(directory=tmp_path), length, function)
    path = tmp_path / "failures" / "reward-1.json"
    assert f"max_reward_failures=0; the sample is in {path}" in str(caught.value)
    kept = json.loads(path.read_text())
    assert kept["function"] == function.__name__
    assert kept["samples"] == [
        {"row": 2, "gold": [2], "prompts": "p2", "completions": "ccc", "completion_ids": [2]}
    ]


@pytest.mark.parametrize("function", FAULTY, ids=lambda function: function.__name__)
def test_a_failure_that_is_allowed_costs_one_answer_its_own_reward(
    function: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a lost night for one odd answer, and an answer that is punished for the judge."""
    failures = RewardFailures(limit=2, directory=tmp_path)
    mean = (1 + 2 + 4) / 3
    for count in (1, 2):
        scores = score(failures, function)
        assert scores.total.tolist() == pytest.approx([1, 2, mean, 4])
        assert scores.means == {function.__name__: pytest.approx(mean)}
        assert f"skipped, failure {count} of at most 2" in capsys.readouterr().err
        assert (tmp_path / "failures" / f"reward-{count}.json").is_file()
    with pytest.raises(RewardError, match=r"max_reward_failures=2 \(3 calls have failed\)"):
        score(failures, function)


def test_a_function_that_fails_on_everything_pays_nobody() -> None:
    """Prevents a hundred calls of a service that is away, and a reward made of nothing."""
    calls: list[int] = []

    def away(completions: list[str], **columns: Any) -> list[float]:
        calls.append(len(completions))
        raise ConnectionError("away")

    scores = score(RewardFailures(limit=1), away, length, answers=[*ANSWERS, "e" * 5, "f" * 6])
    assert scores.total.tolist() == [1, 2, 3, 4, 5, 6]
    assert scores.means.keys() == {"length"}
    assert calls == [6, 1, 1, 1]


@pytest.mark.parametrize("fault", ["keys", "file"])
def test_a_sample_that_cannot_be_kept_hides_no_failure(fault: str, tmp_path: Path) -> None:
    """Prevents a traceback of json, or "File exists", in the place of what the function raised."""
    cell: dict[Any, Any] = {(1, 2): 3} if fault == "keys" else {}
    if fault == "file":
        (tmp_path / "failures").write_text("mine")

    def judge(**columns: Any) -> list[float]:
        raise KeyError("three")

    scorer = RewardScorer([judge], failures=RewardFailures(directory=tmp_path))
    with pytest.raises(RewardError, match=r"KeyError: 'three'[^$]*the sample is not kept: "):
        scorer.score([{"prompt": "p", "gold": cell}], ["a"], [[1]])


def test_a_second_try_may_succeed() -> None:
    """Prevents rewards from being thrown away although a passing failure cost none."""
    calls = 0

    def flaky(completions: list[str], **columns: Any) -> list[float]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise TimeoutError("the network was away")
        return length(completions)

    failures = RewardFailures(limit=1)
    assert score(failures, flaky).total.tolist() == [1, 2, 3, 4]
    assert failures.count == 1


def sleeps(completions: list[str], **columns: Any) -> list[float]:
    time.sleep(30)
    return length(completions)


async def waits(completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(30)
    return length(completions)


async def sleeps_where_it_should_wait(completions: list[str], **columns: Any) -> list[float]:
    return sleeps(completions)


@pytest.mark.parametrize("function", [sleeps, waits, sleeps_where_it_should_wait])
def test_a_call_that_hangs_is_a_failure(function: Any, tmp_path: Path) -> None:
    """Prevents a run that stands still all night, one that cannot even be ended included."""
    started = time.monotonic()
    with pytest.raises(RewardError, match=r"did not return within reward_timeout=0\.2 seconds"):
        score(RewardFailures(timeout=0.2, directory=tmp_path), function)
    kept = json.loads((tmp_path / "failures" / "reward-1.json").read_text())
    assert [sample["completions"] for sample in kept["samples"]] == ANSWERS, "any may be at fault"
    scores = score(RewardFailures(limit=1, timeout=0.2), function, length)
    assert scores.total.tolist() == [1, 2, 3, 4]
    assert time.monotonic() - started < 10


def test_one_that_hangs_takes_no_time_from_the_others() -> None:
    """Prevents async functions in time from being thrown away with one that is not."""

    async def in_time(completions: list[str], **columns: Any) -> list[float]:
        await asyncio.sleep(0.01)
        return length(completions)

    scores = score(RewardFailures(limit=1, timeout=1.0), waits, in_time)
    assert scores.total.tolist() == [1, 2, 3, 4]


def test_a_process_with_a_call_that_hangs_can_end() -> None:
    """Prevents a stopped run that waits for the thread it has given up."""
    program = (
        "import time\nfrom cory.rewards.failures import RewardFailures\n"
        "from cory.rewards.scoring import RewardScorer\n"
        "def sleeps(**columns): time.sleep(900)\n"
        "scorer = RewardScorer([sleeps], failures=RewardFailures(timeout=0.1))\n"
        "scorer.score([{'prompt': 'p'}], ['a'], [[1]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 1
    assert "did not return within reward_timeout=0.1" in done.stderr


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_functions_may_use_threads_and_loops(timeout: float | None) -> None:
    """Prevents a time limit from breaking judges that work in parallel themselves."""

    def with_threads(completions: list[str], **columns: Any) -> list[float]:
        with ThreadPoolExecutor(4) as executor:
            return list(executor.map(lambda text: float(len(text)), completions))

    def with_a_loop(completions: list[str], **columns: Any) -> list[float]:
        async def judge(text: str) -> float:
            await asyncio.sleep(0)
            return float(len(text))

        async def judge_all() -> list[float]:
            return await asyncio.gather(*map(judge, completions))

        return asyncio.run(judge_all())

    async def with_tasks(completions: list[str], **columns: Any) -> list[float]:
        return await asyncio.gather(*(asyncio.to_thread(len, text) for text in completions))

    scores = score(RewardFailures(timeout=timeout), with_threads, with_a_loop, with_tasks)
    assert scores.total.tolist() == [3, 6, 9, 12]


def test_functions_run_in_the_main_thread_unless_their_time_is_limited() -> None:
    """Prevents math-verify, which limits its own time by signals, from failing."""
    threads: list[threading.Thread] = []

    def judge(completions: list[str], **columns: Any) -> list[float]:
        threads.append(threading.current_thread())
        return length(completions)

    score(RewardFailures(), judge)
    score(RewardFailures(timeout=30.0), judge)
    assert threads[0] is threading.main_thread() is not threads[1]


def test_training_goes_on_after_failures_and_counts_them(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a count that begins anew with every resume, and failures that nobody sees."""

    def odd(completions: list[str], topic: list[int], **columns: Any) -> list[float]:
        return [math.inf if length % 7 == 0 else 1.0 for length in topic]

    def team(name: str, **options: Any) -> Any:
        return trainer(tiny_gpt2_dir, tmp_path / name, odd, num_ppo_epochs=1, **options)

    whole = team("whole", max_steps=4, max_reward_failures=99)
    whole.train()
    counts = [line["total_reward_failures"] for line in records(tmp_path / "whole")]
    assert counts == sorted(counts)
    assert counts[-1] == whole.components.rewards.failures.count > counts[0] > 0
    team("parts", max_steps=2, max_reward_failures=99).train()
    parts = team("parts", max_steps=4, max_reward_failures=99, resume=True)
    parts.train()
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    assert all(map(same_bits, map(snapshot, parts.agents), map(snapshot, whole.agents)))

    stopped = team("stopped", max_steps=4, save_steps=1, max_reward_failures=int(counts[1]))
    with pytest.raises(RewardError, match="the sample is in"):
        stopped.train()
    assert Checkpoints(tmp_path / "stopped", limit=None).steps()[-1] == 2
    number = int(counts[1]) + 1
    assert (tmp_path / "stopped" / "failures" / f"reward-{number}.json").is_file()


def test_evaluations_follow_the_same_rule(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a judge that breaks on held-out answers only from ending a run that allows it."""

    def fails_on_four(completions: list[str], **columns: Any) -> list[float]:
        return [math.inf] * 4 if len(completions) == 4 else [1.0] * len(completions)

    options: dict[str, Any] = {"eval_dataset": queries(4), "max_steps": 1}
    allowed = trainer(
        tiny_gpt2_dir, tmp_path / "a", fails_on_four, max_reward_failures=9, **options
    )
    metrics = allowed.train()
    told = capsys.readouterr().err
    assert told.count("cory: warning: no reward function applies to row 0 of the batch") == 1
    assert math.isnan(metrics["task_reward"])
    assert metrics["declined_answers"] == 4
    with pytest.raises(RewardError, match="returned inf for row 0"):
        trainer(tiny_gpt2_dir, tmp_path / "b", fails_on_four, **options).train()
