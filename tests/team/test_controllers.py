"""The state that follows an agent, by hand and against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cory.team.controllers import KL_CONTROLLERS, ElasticReset, RewardScaler
from tests.teams import make_args

BATCHES = ([3.0, -1.0, 4.0], [1.0], [5.0, -9.0, 2.0, 6.0])


def test_reward_scaler_knows_all_rewards_so_far() -> None:
    """Prevents statistics, or a mean to subtract, of one batch, or batches weighted alike."""
    scaler = RewardScaler()
    seen: list[float] = []
    for batch in BATCHES:
        scaler.update(torch.tensor(batch))
        scaled = scaler.scale(torch.tensor(batch))
        seen += batch
        assert scaler.count == len(seen)
        assert scaler.mean == pytest.approx(np.mean(seen))
        assert scaler.std == pytest.approx(np.std(seen))
        expected = (np.array(batch) - np.mean(seen)) / np.std(seen)
        torch.testing.assert_close(scaled, torch.tensor(expected, dtype=torch.float32))


def test_scaling_is_no_sample() -> None:
    """Prevents rewards that are counted again each time somebody reads them."""
    scaler = RewardScaler()
    scaler.update(torch.tensor(BATCHES[0]))
    before = replace(scaler)
    scaler.scale(torch.tensor(BATCHES[2]))
    assert scaler == before


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3])
def test_equal_rewards_are_not_divided(value: float) -> None:
    """Prevents a division by a rounding error where every answer earns the same."""
    scaler = RewardScaler()
    for size in (3, 7, 50):
        rewards = torch.full((size,), value)
        scaler.update(rewards)
        assert not scaler.scale(rewards).any()
    assert scaler.std == 0


def test_adaptive_coefficient_moves_towards_its_target() -> None:
    """Prevents η that falls when the KL is too large, and one that jumps."""
    args = make_args(kl_target=6.0, kl_horizon=1000)
    adaptive = KL_CONTROLLERS["adaptive"]
    assert adaptive(0.1, 60.0, 100, args) == pytest.approx(0.1 * (1 + 0.2 * 100 / 1000))
    assert adaptive(0.1, 6.6, 100, args) == pytest.approx(0.1 * (1 + 0.1 * 100 / 1000))
    assert adaptive(0.1, 6.0, 100, args) == pytest.approx(0.1)
    assert adaptive(0.1, 0.0, 100, args) == pytest.approx(0.1 * (1 - 0.2 * 100 / 1000))


def test_fixed_coefficient_stays() -> None:
    """Prevents a default that drifts."""
    assert KL_CONTROLLERS["fixed"](0.3, 99.0, 256, make_args()) == 0.3


def test_elastic_reset_by_hand() -> None:
    """Prevents an average that follows the initial weights, or a reset the wrong way round."""
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    elastic = ElasticReset([weight], decay=0.75)
    for values in ([5.0, 2.0], [9.0, 6.0]):
        with torch.no_grad():
            weight.copy_(torch.tensor(values))
        elastic.follow()
    # 1 → .75 · 1 + .25 · 5 = 2 → .75 · 2 + .25 · 9 = 3.75, and 2 → 2 → 3.
    assert elastic.average[0].tolist() == [3.75, 3.0]
    elastic.reset()
    assert weight.tolist() == [3.75, 3.0]
    assert elastic.average[0].tolist() == [1.0, 2.0]
    assert elastic.initial[0].tolist() == [1.0, 2.0]
    with torch.no_grad():
        weight.zero_()
    elastic.reset()
    assert weight.tolist() == [1.0, 2.0]


def test_elastic_reset_keeps_the_parameter_and_its_gradient_graph() -> None:
    """Prevents a reset that replaces the tensor the optimizer holds moments for."""
    weight = nn.Parameter(torch.ones(2))
    elastic = ElasticReset([weight], decay=0.9)
    elastic.follow()
    elastic.reset()
    assert elastic.weights[0] is weight
    assert weight.requires_grad
    assert weight.is_leaf
    assert not elastic.average[0].requires_grad
