"""Variants of the policy loss against formulas written out in loops, and against enumeration."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor

from cory.algorithm import losses
from cory.algorithm.advantages import GROUP_SCALES, estimator_of
from cory.algorithm.policy_losses import LOG_RATIOS, LOSS_WEIGHTS, POLICY_LOSSES
from cory.config.losses import LossConfig
from tests.algorithm.test_losses import ragged_mask

LENGTHS, LONGEST = [7, 1, 3, 5, 2], 9
MASK = ragged_mask(LENGTHS, 7)
LOW, HIGH = 0.2, 0.35
TOKENS_PER_MINI_BATCH = 11.5
LEVELS = tuple(POLICY_LOSSES)


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, old ones, and one advantage per answer; nan on padding."""
    generator = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(5, 7, generator=generator, dtype=torch.float64)
    now = old + 0.3 * torch.randn(5, 7, generator=generator, dtype=torch.float64)
    advantages = torch.randn(5, 1, generator=generator, dtype=torch.float64).expand(5, 7)
    padded = [values.masked_fill(~MASK, math.nan) for values in (now, old, advantages)]
    return padded[0].requires_grad_(), padded[1], padded[2]


def spelled_out(level: str, loss_type: str, now: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
    """The loss as the papers' sums say it, one token after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(LENGTHS):
        steps = [now[row, t] - old[row, t] for t in range(length)]
        whole = torch.stack(steps).sum()
        of_answer = torch.zeros((), dtype=torch.float64)
        for t in range(length):
            log_ratio = {"token": steps[t], "sequence": whole / length, "sequence_product": whole}
            ratio = log_ratio[level].exp()
            limited = min(max(ratio, torch.tensor(1 - LOW)), torch.tensor(1 + HIGH))
            gain = min(ratio * advantages[row, t], limited * advantages[row, t])
            of_answer = of_answer - gain
        divisor = {
            "bnpo": sum(LENGTHS),
            "dapo": TOKENS_PER_MINI_BATCH,
            "grpo": len(LENGTHS) * length,
            "dr_grpo": len(LENGTHS) * LONGEST,
        }
        total = total + of_answer / divisor[loss_type]
    return total


def ours(level: str, loss_type: str, now: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
    weigh = LOSS_WEIGHTS[loss_type]
    if weigh is not None:
        advantages = advantages * weigh(MASK, TOKENS_PER_MINI_BATCH, LONGEST)
    return POLICY_LOSSES[level](now, old, advantages, MASK, (LOW, HIGH), sum(LENGTHS)).loss


@pytest.mark.parametrize("loss_type", LOSS_WEIGHTS)
@pytest.mark.parametrize("level", LEVELS)
def test_loss_and_gradient_are_the_sums_of_the_papers(level: str, loss_type: str) -> None:
    """Prevents a divisor, a ratio or a clip that is another one than the name says."""
    for seed in range(3):
        now, old, advantages = inputs(seed)
        expected = spelled_out(level, loss_type, now, old, advantages)
        (wanted,) = torch.autograd.grad(expected, now)
        found = ours(level, loss_type, now, old, advantages)
        (gradient,) = torch.autograd.grad(found, now)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-8)
        assert not gradient[~MASK].any()


@pytest.mark.parametrize("loss_type", LOSS_WEIGHTS)
@pytest.mark.parametrize("level", LEVELS)
def test_answers_one_by_one_add_up(level: str, loss_type: str) -> None:
    """Prevents weights of a piece in place of the mini-batch's: micro-batching would count."""
    now, old, advantages = inputs()
    weigh = LOSS_WEIGHTS[loss_type]
    if weigh is not None:
        advantages = advantages * weigh(MASK, TOKENS_PER_MINI_BATCH, LONGEST)
    parts = [
        POLICY_LOSSES[level](
            now[row], old[row], advantages[row], MASK[row], (LOW, HIGH), sum(LENGTHS)
        ).loss
        for row in (slice(i, i + 1) for i in range(5))
    ]
    whole = ours(level, loss_type, *inputs())
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


@pytest.mark.parametrize("level", LEVELS)
def test_answers_that_were_just_drawn_have_one_gradient(level: str) -> None:
    """Prevents a level that is another objective: at ratio 1 all are the policy gradient.

    With the weights of `grpo` and the mean ratio, each token has A / length; the product has A.
    """
    _, old, advantages = inputs()
    now = old.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ours(level, "grpo", now, old, advantages), now)
    lengths = torch.tensor(LENGTHS)[:, None]
    scale = torch.ones_like(lengths) if level == "sequence_product" else lengths
    expected = (-advantages / (5 * scale)).masked_fill(~MASK, 0)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


def test_the_upper_clip_range_by_hand() -> None:
    """Prevents one range on both sides, or the two exchanged."""
    ratio = torch.tensor([[1.25, 1.4, 0.85, 0.7]]).requires_grad_()
    mask = torch.ones(1, 4, dtype=torch.bool)
    for sign, kept in ((1.0, [True, False, True, True]), (-1.0, [True, True, True, False])):
        found = losses.policy_loss(
            ratio.log(), torch.zeros(1, 4), torch.full((1, 4), sign), mask, (LOW, HIGH), 4
        )
        (gradient,) = torch.autograd.grad(found.loss, ratio)
        assert (gradient != 0)[0].tolist() == kept
        assert found.clip_fraction == 0.25
    both = losses.policy_loss(ratio.log(), torch.zeros(1, 4), torch.ones(1, 4), mask, (LOW, LOW), 4)
    one = losses.policy_loss(ratio.log(), torch.zeros(1, 4), torch.ones(1, 4), mask, LOW, 4)
    assert both.loss.equal(one.loss)
    assert one.clip_fraction == 0.5


def test_an_answer_is_clipped_as_a_whole() -> None:
    """Prevents a clip token by token at the level of answers; both numbers worked by hand."""
    log_ratio = torch.tensor([[0.5, -0.3, 0.1], [0.6, 0.2, math.nan]])
    mask = ragged_mask([3, 2], 3)
    arguments = (torch.zeros(2, 3), torch.ones(2, 3), mask, LOW, 5)
    mean = POLICY_LOSSES["sequence"](log_ratio, *arguments)
    # Means 0.1 and 0.4: the second is above log 1.2 = 0.182.
    assert float(mean.loss) == pytest.approx(-(3 * math.exp(0.1) + 2 * 1.2) / 5)
    assert float(mean.clip_fraction) == pytest.approx(2 / 5)
    product = POLICY_LOSSES["sequence_product"](log_ratio, *arguments)
    # Sums 0.3 and 0.8: both are above.
    assert float(product.loss) == pytest.approx(-1.2)
    assert float(product.clip_fraction) == 1.0


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_the_corrected_kl_has_the_gradient_of_the_full_one(name: str) -> None:
    """Prevents a ratio that is a constant, or on the wrong side; all words enumerated.

    Away from the weights that drew, too. Without the correction k3 has another gradient.
    """
    generator = torch.Generator().manual_seed(0)
    old, start, logits = torch.randn(3, 1, 6, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    now, drawn = logits.log_softmax(-1), old.log_softmax(-1)
    kl = losses.KL_ESTIMATORS[name](now, start.log_softmax(-1))
    mask = torch.ones(1, 6, dtype=torch.bool)
    for log_ratio in LOG_RATIOS["token"], LOG_RATIOS["sequence"]:
        ratios = log_ratio((now - drawn)[0, :, None], mask.mT).exp()[:, 0]
        mean = (drawn.exp() * kl * ratios).sum()
        (gradient,) = torch.autograd.grad(mean, logits, retain_graph=True)
        (wanted,) = torch.autograd.grad(losses.full_kl(logits, start).sum(), logits)
        torch.testing.assert_close(gradient, wanted)
    (plain,) = torch.autograd.grad((drawn.exp() * kl).sum(), logits)
    assert (plain - wanted).abs().max() > 1e-2


REWARDS = torch.tensor([[1.0], [2.0], [6.0], [0.0], [0.0], [3.0], [4.0], [4.0], [4.0]]).double()
ROWS = torch.ones(9, 1, dtype=torch.bool)


def scaled(name: str, rewards: Tensor = REWARDS, rows: Tensor = ROWS) -> list[float]:
    estimator = estimator_of("group", name)
    return estimator.compute(rewards, None, rows, 1.0, 1.0, 3)[0].flatten().tolist()


def test_what_advantages_are_divided_by() -> None:
    """Prevents the std of the wrong set, the biased one, or one of centred rewards."""
    deviations = [-2.0, -1.0, 3.0, -1.0, -1.0, 2.0, 0.0, 0.0, 0.0]
    assert scaled("none") == pytest.approx(deviations)
    # All nine: mean 24 / 9, squares 98, so the variance is (98 - 64) / 8.
    std = math.sqrt(34 / 8) + 1e-4
    assert scaled("batch") == pytest.approx([value / std for value in deviations])
    first, second = math.sqrt(7) + 1e-4, math.sqrt(3) + 1e-4
    by_group = [first] * 3 + [second] * 3 + [1.0] * 3
    expected = [value / std for value, std in zip(deviations, by_group, strict=True)]
    assert scaled("group") == pytest.approx(expected)
    assert scaled("group") == scaled("group", REWARDS)


@pytest.mark.parametrize("name", GROUP_SCALES)
def test_an_answer_that_is_not_there_has_no_part_in_the_scale(name: str) -> None:
    """Prevents a reward of 0 for an answer that nobody paid."""
    rows = ROWS.clone()
    rows[2] = False
    found = scaled(name, rows=rows)
    rewards = REWARDS.clone()
    rewards[2] = 1e9
    assert found == scaled(name, rewards, rows)
    assert found[2] == 0
    if name == "batch":
        std = torch.cat([REWARDS[:2], REWARDS[3:]]).std() + 1e-4
        assert found[0] == pytest.approx(-0.5 / float(std))


@pytest.mark.parametrize("name", GROUP_SCALES)
def test_equal_answers_have_no_advantage(name: str) -> None:
    """Prevents rounding errors that a scale makes large."""
    assert not any(scaled(name, torch.full_like(REWARDS, 0.1)))


def test_every_variant_that_can_be_set_exists() -> None:
    """Prevents a documented choice that raises KeyError in the first iteration."""
    hints = get_type_hints(LossConfig)
    assert set(LOSS_WEIGHTS) == set(get_args(hints["loss_type"]))
    assert set(POLICY_LOSSES) == set(get_args(hints["importance_sampling_level"]))
    assert set(LOG_RATIOS) == set(POLICY_LOSSES)
    assert set(GROUP_SCALES) == set(get_args(hints["scale_rewards"]))
