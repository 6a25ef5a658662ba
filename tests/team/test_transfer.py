"""References are shown for as long as they pay, and no longer."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cory.team.transfer import KnowledgeTransfer
from cory.training.trainer import CORYTrainer
from tests.tiny_runs import records, same_bits, snapshot, trainer

PERIOD = 2


def rewards_by_turn(*levels: float) -> Any:
    """A reward function that pays the same to all answers of a turn, turn after turn."""
    generations = count()

    def pay(completions: list[str], **columns: Any) -> list[float]:
        return [levels[next(generations) % len(levels)]] * len(completions)

    return pay


def references(output_dir: Path) -> list[float]:
    """How many answers an observer saw, by iteration."""
    return [
        record["observer/references"]
        for record in records(output_dir)
        if "observer/references" in record
    ]


@pytest.mark.parametrize(
    ("lifts", "min_lift", "goes_on"),
    [
        ([0.3, 0.1], 0.0, True),
        ([0.3, -0.5], 0.0, False),
        ([-0.5, 0.3], 0.0, False),
        ([0.1, -0.1], 0.0, False),
        ([0.3, 0.1], 0.2, False),
        ([-0.3, -0.1], -0.25, True),
        ([-9.0], None, True),
    ],
)
def test_the_decision_by_hand(lifts: list[float], min_lift: float | None, goes_on: bool) -> None:
    """Prevents a sum in the place of the mean, and a lift of exactly the bound that goes on."""
    transfer = KnowledgeTransfer(True, min_lift, list(lifts))
    transfer.review()
    assert (transfer.is_on, transfer.lifts) == (goes_on, [])


def test_transfer_that_has_ended_stays_ended() -> None:
    """Prevents an exchange without measurements from turning it on again."""
    transfer = KnowledgeTransfer(True, 0.0, [-1.0])
    transfer.review()
    transfer.review()
    assert not transfer.is_on


@pytest.mark.parametrize(
    ("levels", "seen"),
    [
        ((0.0, 1.0), [1, 1, 1, 1, 1, 1]),
        ((1.0, 0.0), [1, 1, 0, 0, 0, 0]),
        ((1.0, 0.0, 0.0, 3.0, 1.0, 0.0), [1, 1, 1, 1, 0, 0]),
    ],
)
def test_references_are_shown_while_they_lift(
    tiny_gpt2_dir: Path, tmp_path: Path, levels: tuple[float, ...], seen: list[int]
) -> None:
    """Prevents a decision within a period, or from the lifts of another one."""
    run = trainer(
        tiny_gpt2_dir,
        tmp_path,
        reward_funcs=rewards_by_turn(*levels),
        max_steps=6,
        role_exchange_period=PERIOD,
        transfer_min_lift=0.0,
    )
    run.train()
    assert references(tmp_path) == seen


def ended(model: Path, output_dir: Path, **options: Any) -> CORYTrainer:
    run = trainer(model, output_dir, transfer_min_lift=0.0, **options)
    run.rollout.transfer.lifts.append(-1.0)
    run.rollout.transfer.review()
    return run


def test_afterwards_the_team_is_one_without_knowledge_transfer(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents observers' prompts, or samples of them, that outlive the transfer."""
    options = {"transfer_back_weight": 1.0, "partner_samples_weight": 1.0}
    team = ended(tiny_gpt2_dir, tmp_path / "ended", **options)
    never = trainer(tiny_gpt2_dir, tmp_path / "never", knowledge_transfer=False, **options)
    for step in range(3):
        left, right = team.iterate(step), never.iterate(step)
        assert left["observer/references"] == right["observer/references"] == 0
        assert not [key for key in left if "transfer_back" in key]
        assert "observer/from_agent_0/importance" in left or step >= PERIOD
    for ours, theirs in zip(team.agents, never.agents, strict=True):
        assert same_bits(snapshot(ours), snapshot(theirs))


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        ((0.0, 1.0), (0.5, 0.0), [1, 1, 1, 1, 1, 1]),
        ((1.0, 0.0), (0.0, 1.0), [1, 1, 0, 0, 0, 0]),
    ],
)
def test_a_resume_remembers_decision_and_lifts(
    tiny_gpt2_dir: Path,
    tmp_path: Path,
    before: tuple[float, ...],
    after: tuple[float, ...],
    seen: list[int],
) -> None:
    """Prevents references that come back, and a decision on half a period.

    The run is cut in the middle of its second period, whose lifts are 1 and −0.5 in the first case.
    """
    options = {"role_exchange_period": PERIOD, "transfer_min_lift": 0.0}
    first = trainer(tiny_gpt2_dir, tmp_path, rewards_by_turn(*before), max_steps=3, **options)
    first.train()
    options |= {"max_steps": 6, "resume": True}
    trainer(tiny_gpt2_dir, tmp_path, rewards_by_turn(*after, 0.0, 1.0), **options).train()
    assert references(tmp_path) == seen


def test_a_team_of_one_has_nothing_to_decide(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a mean over no later speakers."""
    run = trainer(tiny_gpt2_dir, tmp_path, num_agents=1, max_steps=3, transfer_min_lift=0.0)
    run.train()
    assert run.rollout.transfer.is_on


def test_transfer_ends_at_the_exchange_after_references_did_not_help(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a bound without effect, and a lift of what observers are paid for the pioneer."""
    options = {"role_exchange_period": PERIOD, "max_steps": 5, "transfer_min_lift": -0.5}
    trainer(tiny_gpt2_dir, tmp_path, rewards_by_turn(1.0, 0.0), **options).train()
    assert references(tmp_path) == [1, 1, 0, 0, 0]
