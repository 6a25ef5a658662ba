"""Each agent alone on the plain query; statistics by hand and by enumeration."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cory.models.batch import make_batch
from cory.models.scoring import TokenScores
from cory.team.evaluation import (
    Evaluation,
    metrics_of_all,
    pass_at_k,
    reward_metrics,
    score_metrics,
)
from cory.training.setup import RunComponents
from tests.teams import ADAPTERS, QUERIES, disturb, make_team, rows_of

METRICS = {
    "task_reward",
    "task_reward_ci95",
    "kl",
    "kl_ci95",
    "kl_per_token",
    "entropy",
    "ref_perplexity",
    "completion_length",
    "distinct_1",
    "distinct_2",
    "unique_share",
    "ended_share",
}


def even_length(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(completion) % 2 == 0) for completion in completions]


def evaluate(team: RunComponents, agent: int = 0, num_samples: int = 3) -> Evaluation:
    return team.evaluator.evaluate(team.policies[agent], rows_of(team), num_samples)


@pytest.mark.parametrize("num_samples", range(1, 7))
def test_pass_at_k_equals_enumeration(num_samples: int) -> None:
    """Prevents the biased 1 − (1 − c/n)^k, and a crash where fewer than k answers are wrong."""
    for num_correct in range(num_samples + 1):
        answers = [index < num_correct for index in range(num_samples)]
        for k in range(1, num_samples + 1):
            draws = list(itertools.combinations(answers, k))
            expected = sum(map(any, draws)) / len(draws)
            assert pass_at_k(num_samples, num_correct, k) == pytest.approx(expected)


def test_reward_metrics_by_hand() -> None:
    """Prevents an interval over answers: those to one query are not independent."""
    rewards = torch.tensor([[1.0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    metrics = reward_metrics(rewards)
    assert metrics["task_reward"] == pytest.approx(7 / 12)
    spread = abs(1 / 6 - 1) / math.sqrt(2)
    assert metrics["task_reward_ci95"] == pytest.approx(1.96 * spread / math.sqrt(2))
    for k in range(1, 6):
        assert metrics[f"pass@{k}"] == pytest.approx((k / 6 + 1) / 2)
    assert "pass@6" not in metrics


def test_pass_at_k_is_for_checked_answers() -> None:
    """Prevents pass@k of a reward that is no judgement, or of more answers than there are."""
    assert "pass@1" not in reward_metrics(torch.tensor([[0.5, 1.0]]))
    assert "pass@3" not in reward_metrics(torch.tensor([[0.0, 1.0]]))


def test_evaluation_measures_what_the_answers_are(tiny_gpt2_dir: Path) -> None:
    """Prevents metrics of other answers than those returned, and prompts of an observer."""
    team = make_team(tiny_gpt2_dir, reward_funcs=even_length)
    disturb(team.policies[0], seed=0)
    evaluation = evaluate(team)
    assert [row["prompt"] for row in evaluation.rows] == [
        query for query in QUERIES for _ in range(3)
    ]
    assert evaluation.task_rewards == even_length(evaluation.completions)
    metrics = evaluation.metrics
    assert set(metrics) == METRICS | {"pass@1", "pass@2", "pass@3", "reward/even_length"}
    assert metrics["reward/even_length"] == pytest.approx(metrics["task_reward"])
    assert metrics["pass@1"] == pytest.approx(metrics["task_reward"])
    assert 1 <= metrics["completion_length"] <= team.args.max_completion_length
    assert 0 < metrics["ended_share"] <= 1
    assert metrics["kl"] > 0.01
    per_token = metrics["kl"] / metrics["completion_length"]
    assert metrics["kl_per_token"] == pytest.approx(per_token, rel=1e-4)


def test_score_metrics_by_hand() -> None:
    """Prevents a KL interval that shrinks with every further answer to the same queries."""
    mask = make_batch([[5]] * 4, [[7, 8], [9], [7, 8], [9]]).response_mask
    ones = mask.float()
    scores = TokenScores(
        logprobs=-ones,
        values=ones,
        entropy=torch.tensor([[1.0, 2], [3, 0], [1, 2], [3, 0]]),
        ref_logprobs=-2 * ones,
        full_kl=torch.tensor([[1.0, 1], [2, 0], [3, 1], [4, 0]]),
    )
    # Per query the KL is (2 + 2) / 2 = 2 and (4 + 4) / 2 = 4: their deviation is √2.
    assert score_metrics(scores, mask, num_samples=2) == {
        "kl": 3.0,
        "kl_ci95": pytest.approx(1.96 * math.sqrt(2) / math.sqrt(2)),
        "kl_per_token": 2.0,
        "entropy": 2.0,
        "ref_perplexity": pytest.approx(math.exp(2)),
        "completion_length": 1.5,
    }


def test_evaluation_without_training_has_no_kl(tiny_llama_dir: Path) -> None:
    """Prevents a curve that does not start at the initial model."""
    team = make_team(tiny_llama_dir, **ADAPTERS)
    metrics = evaluate(team, num_samples=1).metrics
    assert abs(metrics["kl"]) < 1e-6
    mean_entropy = metrics["entropy"]
    assert 0 < mean_entropy < math.log(team.reference.vocab_size)
    assert metrics["ref_perplexity"] > 1


@pytest.mark.parametrize("settings", [{}, ADAPTERS], ids=["full", "adapters"])
def test_evaluation_of_an_agent_ignores_its_partner(tiny_gpt2_dir: Path, settings: dict) -> None:
    """Prevents results that hang on the partner's weights, on the order, or on hidden state."""
    team = make_team(tiny_gpt2_dir, **settings)
    disturb(team.policies[0], seed=0)
    first = evaluate(team, agent=0)
    disturb(team.policies[1], seed=1)
    second = evaluate(team, agent=1)
    torch.rand(3)
    assert evaluate(team, agent=0) == first
    assert second.completions != first.completions


def test_equal_agents_get_equal_evaluations(tiny_gpt2_dir: Path) -> None:
    """Prevents differences between agents that are differences of luck."""
    team = make_team(tiny_gpt2_dir)
    assert evaluate(team, agent=0) == evaluate(team, agent=1)


class Listening:
    """A sampler that notes what it is asked for."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.asked: list[tuple[Any, int, float]] = []

    def generate(self, policy, prompt_ids, max_new_tokens, temperature, generator) -> Any:
        self.asked.append((prompt_ids, max_new_tokens, temperature))
        return self.sampler.generate(policy, prompt_ids, max_new_tokens, temperature, generator)


def test_an_evaluation_asks_the_plain_query_at_full_length(tiny_gpt2_dir: Path) -> None:
    """Prevents agents that are evaluated as observers, cut off, or at another temperature."""
    options = {"min_completion_length": 2, "max_completion_length": 7, "temperature": 0.7}
    team = make_team(tiny_gpt2_dir, **options)
    sampler = Listening(team.sampler)
    replace(team.evaluator, sampler=sampler).evaluate(team.policies[0], rows_of(team), 2)
    plain = [team.tokenizer(query)["input_ids"] for query in QUERIES for _ in range(2)]
    assert sampler.asked == [(plain, 7, 0.7)]


def test_means_over_agents_keep_the_order_of_their_metrics() -> None:
    """Prevents lines of metrics.jsonl whose order differs from process to process."""
    keys = [f"reward/{number}" for number in range(50)]
    agents = {
        name: Evaluation({**dict.fromkeys(keys, value), name: 0.0}, [], [], [])
        for name, value in (("agent_0", 1.0), ("agent_1", 2.0))
    }
    metrics = metrics_of_all(agents, list(agents))
    assert [(key, value) for key, value in metrics.items() if "agent" not in key] == [
        (key, 1.5) for key in keys
    ]
