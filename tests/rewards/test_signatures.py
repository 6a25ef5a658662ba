"""Reward functions that cannot be called are refused; what the others ask for, they get."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch

from cory.rewards.calling import RewardError
from cory.rewards.scoring import RewardScorer
from cory.rewards.signatures import takes
from tests.tiny_runs import queries, records, trainer


def needs_gold(completions: list[str], gold: list[int], **columns: Any) -> list[float]: ...


def takes_two(prompts: list[str], completions: list[str]) -> list[float]: ...


def by_place(completions: list[str], /, **columns: Any) -> list[float]: ...


def names_all(
    prompts: Any, completions: Any, completion_ids: Any, topic: Any, log_metric: Any
) -> list[float]: ...


class Judge:
    def __call__(self, completions: list[str]) -> list[float]: ...


def timed(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def adapted(function: Any) -> Any:
    """A wrapper that says it takes what the function inside does, and takes more."""

    @functools.wraps(function)
    def wrapper(**kwargs: Any) -> Any:
        return function(kwargs["prompts"], kwargs["completions"])

    return wrapper


REFUSED = {
    "needs_gold": (needs_gold, "missing a required argument: 'gold'"),
    "takes_two": (takes_two, "unexpected keyword argument 'completion_ids'"),
    "by_place": (by_place, "'completions'"),
    "Judge": (Judge(), "unexpected keyword argument"),
    "class": (Judge, "unexpected keyword argument|too many"),
    "len": (len, "'obj'"),
    "partial": (functools.partial(needs_gold, gold=[1], nothing=2), None),
    "bound": (functools.partial(takes_two, prompts=["p"]), "completion_ids"),
    "names_all": (names_all, None),
    "timed": (timed(names_all), None),
    "adapted": (adapted(takes_two), None),
    "lambda": (lambda **columns: [1.0], None),
    "max": (max, None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_called_is_refused_at_the_start(name: str) -> None:
    """Prevents a first rollout, of hours perhaps, for a function that lacks **kwargs."""
    function, message = REFUSED[name]
    scorer = RewardScorer([function])
    if message is None:
        scorer.check_signatures(["prompt", "topic", "completion"])
        return
    with pytest.raises(ValueError, match=message) as caught:
        scorer.check_signatures(["prompt", "topic", "completion"])
    assert "cannot be called" in str(caught.value)
    assert "take **kwargs for the rest" in str(caught.value)


def test_a_run_is_refused_before_its_first_rollout(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the check from being left out where runs are built, for either data set."""
    with pytest.raises(ValueError, match=r"'needs_gold' cannot be called: .*'gold'"):
        trainer(tiny_gpt2_dir, tmp_path, needs_gold)
    with pytest.raises(ValueError, match=r"'names_all' cannot be called: .*'topic'"):
        trainer(tiny_gpt2_dir, tmp_path, names_all, eval_dataset=queries(4).remove_columns("topic"))


def test_tools_are_for_those_who_ask() -> None:
    """Prevents an unexpected argument for a function that names all it takes."""
    assert takes(names_all, "log_metric")
    assert not takes(names_all, "log_extra")
    assert not takes(timed(names_all), "trainer_state")
    assert takes(timed(needs_gold), "trainer_state")


def logging_judge(
    completions: list[str], log_metric: Any, log_extra: Any, trainer_state: Any, **columns: Any
) -> list[float]:
    log_metric("letters", torch.tensor(2.0))
    log_metric("letters", 4)
    log_metric("letters", math.nan)
    log_metric("step", trainer_state.global_step)
    log_metric("kl", 7)
    log_extra("text", [f"so: {text}" for text in completions])
    log_extra("number", [1, 2.5] * (len(completions) // 2))
    log_extra("mixed", ["a", 10**30, None, {"x": [1]}] * (len(completions) // 4))
    log_extra("answer", [0] * len(completions))
    trainer_state.global_step = 99
    trainer_state.log_history.clear()
    return [float(len(text)) for text in completions]


def test_what_functions_log_is_in_the_files(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents logged values from being thrown away, and a state that a function changes."""
    run = trainer(
        tiny_gpt2_dir, tmp_path, logging_judge, eval_dataset=queries(4), log_samples_steps=1
    )
    run.train()
    first, second, evaluated = records(tmp_path)
    assert [first["agent_0/logged/step"], second["agent_1/logged/step"]] == [0, 1]
    assert first["pioneer/logged/letters"] == first["observer/logged/letters"] == 3
    assert first["agent_0/logged/kl"] == 7 > first["agent_0/kl"]
    assert evaluated["eval/agent_0/logged/letters"] == evaluated["eval/logged/letters"] == 3
    assert run.events.state.global_step == 2
    assert run.events.state.log_history
    table = pyarrow.parquet.read_table(tmp_path / "samples" / "step-000001.parquet").to_pylist()
    assert len(table) == 3 * 8, "two agents and the initial model"
    assert all(row["text"] == f"so: {row['answer']}" for row in table)
    assert [row["number"] for row in table[:2]] == [1, 2.5]
    assert [row["mixed"] for row in table[:4]] == ['"a"', f'"{10**30}"', None, '{"x": [1]}']
    assert {row["answer_2"] for row in table} == {0}


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda log_metric, log_extra: log_metric("x", "many"), "a finite number, not 'many'"),
        (lambda log_metric, log_extra: log_metric("x", math.inf), "a finite number, not inf"),
        (lambda log_metric, log_extra: log_metric(3, 1.0), "a name first, a str, not 3"),
        (lambda log_metric, log_extra: log_extra("x", [1]), "one value for each of the 2"),
        (lambda log_metric, log_extra: log_extra(None, [1, 2]), "a name first, a str, not None"),
    ],
)
def test_what_cannot_be_logged_is_a_failure_of_the_function(use: Any, message: str) -> None:
    """Prevents a file that cannot be written, far from the function that is the reason."""

    def judge(log_metric: Any, log_extra: Any, **columns: Any) -> list[float]:
        use(log_metric, log_extra)
        return [1.0, 1.0]

    with pytest.raises(RewardError, match=f"'judge' raised ValueError: .*{message}"):
        RewardScorer([judge]).score([{"prompt": "p"}] * 2, ["a", "b"], [[1], [2]])
