"""The sentence at the top of a page."""

from __future__ import annotations

from typing import Any

from cory.config import CORYConfig
from cory.report.figures import band
from cory.report.measures import DISTINCT, KL
from cory.report.verdicts import comparison_verdict, run_verdict

AGENTS = ["agent_0", "agent_1"]


def evaluation(step: int, *rewards: float | None) -> dict[str, Any]:
    """A record of held-out results."""
    record: dict[str, Any] = {"step": step}
    for agent, reward in zip(AGENTS, rewards, strict=True):
        record |= {f"eval/{agent}/task_reward": reward, f"eval/{agent}/kl": 2.0}
        record |= {f"eval/{agent}/task_reward_ci95": 0.1}
    return record


def test_a_run_is_judged_by_its_best_agent() -> None:
    """Prevents a page of curves that leaves the outcome to the reader."""
    args = CORYConfig(max_steps=20)
    verdict = run_verdict(args, AGENTS, [evaluation(0, 0.25, 0.25), evaluation(20, 0.5, 0.75)])
    assert verdict == (
        "agent_1 earns 0.750 ± 0.100 per held-out answer, 0.500 more than the initial model, at a "
        "KL of 2.000 nats."
    )
    verdict = run_verdict(args, AGENTS, [evaluation(20, None, None)])
    assert verdict == "No held-out answer was paid."


def test_a_run_says_what_it_lacks() -> None:
    """Prevents a page of an interrupted run that looks like that of a whole one."""
    args = CORYConfig(max_steps=20)
    verdict = run_verdict(args, AGENTS, [evaluation(0, 0.5, 0.25), {"step": 5}])
    assert "The run has 5 of 20 iterations" in verdict
    assert "The last evaluation is of iteration 0." in verdict
    assert "So few iterations" in verdict
    assert "less than" not in verdict
    assert "Nothing was measured" in run_verdict(args, AGENTS, [{"step": 20}])


class Made:
    """A comparison of two arms, with one difference."""

    rewards = ("task_reward",)
    baseline = "ppo"
    settings = ("ppo", "team")

    def __init__(self, half: float | None) -> None:
        row = {"task_reward_difference": -0.2, "task_reward_difference_interval": half, "pairs": 3}
        self.ends = {("ppo", "agent_0"): {}, ("team", "mean"): row, ("team", "agent_0"): row}

    def name(self, which: str) -> str:
        return which


def test_a_difference_is_called_real_only_beyond_its_interval() -> None:
    """Prevents a winner by noise, and one by a single seed."""
    made: Any = Made(0.1)
    assert comparison_verdict(made) == "team earns 0.200 less than ppo (± 0.100, 3 seeds)."
    made = Made(0.3)
    assert comparison_verdict(made).startswith("team and ppo cannot be told apart: −0.200 ± 0.300")
    made = Made(None)
    assert "no evidence yet" in comparison_verdict(made)


def test_bands_end_where_nothing_is_possible() -> None:
    """Prevents a negative KL and a share of 110% on the page."""
    assert band([0.1], [0.3], KL.possible)["lower"] == [0.0]
    assert band([0.9], [0.3], DISTINCT.possible)["upper"] == [1.0]
    assert band([0.9], [0.3])["upper"] == [0.9 + 0.3]
