"""Warnings where nothing can be learnt: when they come, and that they come once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cory.training.standstill import Standstill
from tests.tiny_runs import trainer

LEARNS = {"kl_per_token": 0.01, "task_reward": 0.5, "task_reward_std": 0.4, "ended_share": 0.9}
STILL = {"kl_per_token": 9e-5}
EQUAL = {"task_reward": 3.0, "task_reward_std": 1e-7}
CUT_OFF = {"ended_share": 0.04}
NAN = float("nan")


@pytest.fixture(scope="module")
def agents(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trainer(tiny_gpt2_dir, tmp_path_factory.mktemp("runs") / "run").agents


def told(agents: Any, numbers: list[dict[str, float]], **settings: Any) -> list[str]:
    """What is said of agent 1 in iterations with these numbers; agent 0 learns."""
    watching = Standstill(agents, agents[0].args.replace(**settings))
    lines = []
    for step, own in enumerate(numbers, 1):
        metrics = {f"agent_0/{key}": value for key, value in LEARNS.items()}
        metrics |= {f"agent_1/{key}": value for key, value in (LEARNS | own).items()}
        lines += watching.after(step, metrics)
    return lines


WARNED: dict[str, tuple[list[dict[str, float]], dict[str, Any], str]] = {
    "still": ([STILL] * 30, {}, "in 10 iterations up to 10, it stayed .*9e-05.*learning_rate"),
    "still after warm-up": ([STILL] * 30, {"warmup_steps": 3}, "in 13 iterations up to 13"),
    "below zero": ([{"kl_per_token": -1e-10}] * 10, {}, "stayed the initial model"),
    "equal": ([EQUAL] * 30, {}, "in 5 iterations up to 5, all its answers earned the same \\(3\\)"),
    "equal later": ([{}] * 3 + [EQUAL] * 9, {}, "in 5 iterations up to 8"),
    "cut off": ([CUT_OFF] * 9, {}, "96% of its answers were cut off.*max_completion_length.* 6"),
    "cut off and masked": (
        [CUT_OFF] * 9,
        {"task": "imdb", "mask_truncated_completions": True},
        "were cut off",
    ),
    "nothing": ([{}] * 30, {}, ""),
    "nine": ([STILL] * 9, {}, ""),
    "not in a row": (([EQUAL] * 4 + [{}]) * 4, {}, ""),
    "frozen": ([STILL] * 30, {"learning_rate": [1e-3, 0.0]}, ""),
    "continuations": ([CUT_OFF] * 9, {"task": "pocket-reviews"}, ""),
    "one answer": ([EQUAL] * 9, {"batch_size": 1}, ""),
    "unpaid": ([{"task_reward": NAN, "task_reward_std": NAN}] * 9, {}, ""),
}


@pytest.mark.parametrize("name", WARNED)
def test_an_agent_that_learns_nothing_is_told_once(name: str, agents: Any) -> None:
    """Prevents hours of training that changes nothing, and a warning in every iteration."""
    numbers, settings, message = WARNED[name]
    lines = told(agents, numbers, **settings)
    assert len(lines) == bool(message)
    assert all(re.match(f"cory: warning: agent_1 .*{message}", line) for line in lines)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_peft": True, "learning_rate": 1e-5}, "1e-05 is one for full.*learning_rate=0.0001"),
        ({"use_peft": True, "learning_rate": [0.0, 2e-6]}, "is one for full weights"),
        ({"use_peft": True, "learning_rate": 2e-5}, ""),
        ({"use_peft": True, "learning_rate": 0.0}, ""),
        ({"learning_rate": 1e-5}, ""),
        ({"num_generations": 4}, "num_generations=4 with advantage_estimator='gae'"),
        ({"num_generations": 4, "advantage_estimator": "group"}, ""),
    ],
)
def test_settings_that_do_not_fit_are_told_at_the_start(
    settings: dict[str, Any],
    message: str,
    tiny_llama_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """Prevents adapters at a rate that moves nothing, and groups that nothing compares."""
    trainer(tiny_llama_dir, tmp_path, max_steps=1, **settings).train()
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == bool(message)
    assert all(re.search(message, line) for line in lines)


def test_a_run_says_that_it_stands_still(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents warnings that no training gives."""
    trainer(
        *(tiny_gpt2_dir, tmp_path),
        reward_funcs=lambda completions, **_: [1.0] * len(completions),
        learning_rate=1e-12,
        max_steps=10,
        num_ppo_epochs=1,
        batch_size=4,
        max_completion_length=2,
    ).train()
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("may learn nothing") == 6
    for sign in ("stayed the initial model", "earned the same (1)", "were cut off"):
        assert told.count(sign) == 2
