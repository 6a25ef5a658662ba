"""Learning from answers that another engine drew."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cory.algorithm.losses import policy_loss
from cory.config import CORYConfig
from cory.models.batch import make_batch
from cory.models.scoring import TokenScores
from cory.team.train_samples import TrainSamples, behaviour_logprobs, correct_sampler_mismatch
from cory.team.types import Generation, RolloutRecord
from cory.training.trainer import CORYTrainer
from tests.tiny_runs import same_bits, snapshot, trainer

# Two answers, of two tokens and one: μ gave them other probabilities than π_old does.
ENGINE = torch.tensor([[0.5, 0.2], [0.1, 1.0]]).log()
OWN = torch.tensor([[0.4, 0.3], [0.4, 1.0]]).log()
ADVANTAGES = torch.tensor([[1.0, -2.0], [3.0, 0.0]])


def server_settings(**settings: Any) -> CORYConfig:
    return CORYConfig(vllm_server_base_url="http://localhost:8000", **settings)


def record_of(engine: Tensor | None) -> RolloutRecord:
    prompts, responses = [[5], [6, 7]], [[8, 9], [3]]
    zeros = torch.zeros(2, 2)
    return RolloutRecord(
        generation=Generation(0, 0, prompts, responses, ["a", "b"], logprobs=engine),
        batch=make_batch(prompts, responses),
        scores=TokenScores(OWN, zeros, zeros, zeros, zeros),
        task_reward=torch.zeros(2),
        team_reward=torch.zeros(2),
        scaled_reward=torch.zeros(2),
    )


def corrected(engine: Tensor | None, args: CORYConfig) -> tuple[TrainSamples, dict[str, float]]:
    record = record_of(engine)
    samples = TrainSamples(record.batch, old_logprobs=OWN, advantages=ADVANTAGES)
    return correct_sampler_mismatch(samples, {"advantage_std": 1.0}, record, args)


def test_truncated_weights_by_hand() -> None:
    """Prevents the inverse ratio, a cap from below, and weights that the loss does not meet."""
    samples, metrics = corrected(ENGINE, server_settings())
    # π_old / μ = 0.8, 1.5 and 4, the last of which is cut off at 2.
    torch.testing.assert_close(
        samples.advantages, torch.tensor([[1.0 * 0.8, -2.0 * 1.5], [3.0 * 2.0, 0.0]])
    )
    assert torch.equal(samples.old_logprobs, OWN), "the clip stays around π_old"
    differences = [math.log(0.8), math.log(1.5), math.log(4.0)]
    assert metrics == {
        "advantage_std": 1.0,
        "engine_logprob_difference": pytest.approx(sum(map(abs, differences)) / 3),
        "engine_logprob_difference_max": pytest.approx(math.log(4.0)),
        "engine_kl": pytest.approx(-sum(differences) / 3),
        "engine_importance": pytest.approx((0.8 + 1.5 + 2.0) / 3),
    }
    # At the first step ρ = 1, so the loss is −Σ c_t A_t / 3.
    loss = policy_loss(
        OWN, samples.old_logprobs, samples.advantages, samples.batch.response_mask, 0.2, 3
    ).loss
    assert float(loss) == pytest.approx(-(0.8 - 3.0 + 6.0) / 3)


def test_the_cap_is_a_setting() -> None:
    """Prevents the default cap from standing where the user's should."""
    samples, metrics = corrected(ENGINE, server_settings(vllm_importance_sampling_clip_max=1.2))
    torch.testing.assert_close(
        samples.advantages, torch.tensor([[0.8, -2.0 * 1.2], [3.0 * 1.2, 0.0]])
    )
    assert metrics["engine_importance"] == pytest.approx((0.8 + 1.2 + 1.2) / 3)


def test_without_correction_the_difference_is_only_told() -> None:
    """Prevents a switch that leaves the weights on, or takes the numbers away."""
    args = server_settings(vllm_importance_sampling_clip_max=None)
    samples, metrics = corrected(ENGINE, args)
    assert torch.equal(samples.advantages, ADVANTAGES)
    assert torch.equal(samples.old_logprobs, OWN)
    assert metrics["engine_importance"] == pytest.approx((0.8 + 1.5 + 4.0) / 3), "nothing is cut"


def test_without_recomputing_the_ratio_is_to_the_engine() -> None:
    """Prevents a correction for what the ratio contains already."""
    samples, metrics = corrected(ENGINE, server_settings(recompute_logprobs=False))
    assert torch.equal(samples.old_logprobs, ENGINE)
    assert torch.equal(samples.advantages, ADVANTAGES)
    assert metrics["engine_logprob_difference_max"] == pytest.approx(math.log(4.0))
    # ρ = 0.8, 1.5, 4 at ε 0.2: −0.8 · 1, +1.5 · 2 (the worse of 1.5 and 1.2), −1.2 · 3 (clipped).
    loss = policy_loss(
        OWN, samples.old_logprobs, samples.advantages, samples.batch.response_mask, 0.2, 3
    ).loss
    assert float(loss) == pytest.approx((-0.8 + 3.0 - 3.6) / 3)


def test_own_answers_are_left_alone() -> None:
    """Prevents a run without a server from changing by a bit."""
    for args in (CORYConfig(), server_settings()):
        samples, metrics = corrected(None, args)
        assert samples.advantages is ADVANTAGES
        assert samples.old_logprobs is OWN
        assert metrics == {"advantage_std": 1.0}
        assert behaviour_logprobs(record_of(None), args) is OWN


def test_an_unbiased_estimate_under_the_engine() -> None:
    """Prevents a correction that does not correct: E_μ[c A] = E_π[A], summed over a vocabulary."""
    engine = torch.tensor([0.5, 0.3, 0.2])
    own = torch.tensor([0.45, 0.2, 0.35])
    advantages = torch.tensor([1.0, -1.0, 2.0])
    record = record_of(None)
    mask_of_three = make_batch([[5]] * 3, [[0], [1], [2]])
    drawn = replace(
        record,
        generation=Generation(
            0, 0, [[5]] * 3, [[0], [1], [2]], [""] * 3, logprobs=engine.log()[:, None]
        ),
        batch=mask_of_three,
        scores=TokenScores(own.log()[:, None], *[torch.zeros(3, 1)] * 4),
    )
    samples = TrainSamples(mask_of_three, own.log()[:, None], advantages[:, None])
    weighted = correct_sampler_mismatch(samples, {}, drawn, server_settings())[
        0
    ].advantages.squeeze(1)
    assert float(engine @ weighted) == pytest.approx(float(own @ advantages))
    assert float(engine @ advantages) != pytest.approx(float(own @ advantages))


def test_whose_probabilities_a_partner_weights_by() -> None:
    """Prevents importance weights to a policy that drew nothing."""
    drawn = record_of(ENGINE)
    for settings, expected in (
        ({}, ENGINE),
        ({"vllm_importance_sampling_clip_max": None}, OWN),
        ({"vllm_importance_sampling_clip_max": None, "recompute_logprobs": False}, ENGINE),
    ):
        assert behaviour_logprobs(drawn, server_settings(**settings)) is expected


def test_equal_engines_change_no_update(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a correction that does something where there is nothing to correct."""

    def updated(name: str, *, is_drawn_elsewhere: bool) -> CORYTrainer:
        team = trainer(tiny_gpt2_dir, tmp_path / name)
        record = team.rollout.run(team.queries(0), 0).records[0]
        if is_drawn_elsewhere:
            generation = replace(record.generation, logprobs=record.scores.logprobs)
            record = replace(record, generation=generation)
        metrics = team.agents[0].update(record, step=0)
        assert ("engine_kl" in metrics) == is_drawn_elsewhere
        return team

    here, there = (
        updated("here", is_drawn_elsewhere=False),
        updated("there", is_drawn_elsewhere=True),
    )
    assert same_bits(snapshot(here.agents[0]), snapshot(there.agents[0]))
