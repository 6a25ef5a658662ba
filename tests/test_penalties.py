"""`cory.penalties`: the KL penalty by name, in the reward and in the loss."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from cory.batch import make_batch
from cory.config import AlgorithmConfig
from cory.penalties import KL_PENALTIES, LiveTokens
from cory.policy import score
from tests.teams import disturb, make_team

BATCH = make_batch([[50, 51], [60]], [[80, 81, 82], [90, 91]], 0)


def test_every_configurable_penalty_exists() -> None:
    """Prevents a documented choice that raises KeyError in the first iteration."""
    assert set(KL_PENALTIES) == set(get_args(get_type_hints(AlgorithmConfig)["kl_estimator"]))


@pytest.mark.parametrize("name", KL_PENALTIES)
def test_reward_and_loss_agree_before_the_first_update(tiny_gpt2_dir: Path, name: str) -> None:
    """Prevents two definitions of one penalty; only the one in the loss carries a gradient."""
    team = make_team(tiny_gpt2_dir)
    policy, reference, mask = team.policies[0], team.reference, BATCH.response_mask
    disturb(policy, seed=0)
    penalty = KL_PENALTIES[name]
    scores = score(policy, reference, BATCH, 0.7, keep_ref_hidden=True)
    hidden = policy.response_hidden(BATCH)
    assert scores.ref_hidden is not None
    tokens = LiveTokens(
        hidden=hidden,
        logprobs=policy.logprobs(hidden, BATCH.response_tokens, 0.7),
        ref_logprobs=scores.ref_logprobs[mask],
        ref_hidden=scores.ref_hidden[mask] if penalty.needs_ref_hidden else None,
    )
    live = penalty.while_learning(tokens, policy, reference, 0.7)
    sampled = penalty.when_sampled(scores)
    torch.testing.assert_close(live, sampled[mask], rtol=1e-4, atol=1e-5)
    assert live.abs().min() > 1e-3
    assert not sampled.requires_grad
    assert not sampled[~mask].any()
    live.sum().backward()
    gradients = [weight.grad for weight in policy.language_parameters()]
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    assert all(weight.grad is None for weight in reference.parameters())
