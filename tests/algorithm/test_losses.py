"""The mathematics against hand-worked numbers, brute force, exact enumeration and invariances."""

import math
from collections.abc import Callable
from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cory.algorithm import losses
from cory.config.themes import AlgorithmConfig

DTYPES = (torch.float32, torch.float64)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def ragged_mask(lengths: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def random_ragged(
    seed: int, num_tensors: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, list[Tensor]]:
    """A mask with an empty, a full and other rows, and tensors that hold nan on its padding."""
    generator = torch.Generator().manual_seed(seed)
    response_mask = ragged_mask([0, 7, 1, 3, 5, 2], width=7)
    tensors = [torch.randn(6, 7, generator=generator, dtype=dtype) for _ in range(num_tensors)]
    return response_mask, [tensor.masked_fill(~response_mask, math.nan) for tensor in tensors]


def response_positions(response_mask: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row, column in response_mask.nonzero().tolist()]


def random_logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Masked statistics


def test_masked_mean_counts_response_tokens_only() -> None:
    """Catches a mean over the padded width."""
    values = torch.tensor([[1.0, 2.0, math.nan], [6.0, math.inf, math.nan]])
    assert losses.masked_mean(values, ragged_mask([2, 1], 3)) == 3.0
    assert losses.masked_mean(values, ragged_mask([0, 0], 3)) == 0.0


def test_masked_whiten_by_hand() -> None:
    """Catches the unbiased std, and whitening that lets padding into mean or std."""
    values = torch.tensor([[1.0, 3.0, math.nan], [5.0, math.nan, math.inf]])
    step = math.sqrt(1.5)  # (5 - 3) / sqrt(8 / 3)
    expected = torch.tensor([[-step, 0.0, 0.0], [step, 0.0, 0.0]])
    torch.testing.assert_close(losses.masked_whiten(values, ragged_mask([2, 1], 3)), expected)


def test_masked_whiten_does_not_blow_up_tiny_differences() -> None:
    """Catches another epsilon: a standard deviation of 1e-8 counts half."""
    values = torch.tensor([[0.0, 2e-8]], dtype=torch.float64)
    whitened = losses.masked_whiten(values, torch.ones(1, 2, dtype=torch.bool))
    assert whitened[0].tolist() == pytest.approx([-0.5, 0.5])


@pytest.mark.parametrize("dtype", DTYPES)
@given(value=st.floats(-1e4, 1e4, width=32), count=st.integers(1, 60))
@settings(max_examples=60)
def test_masked_whiten_of_equal_values_is_zero(
    dtype: torch.dtype, value: float, count: int
) -> None:
    """Catches the rounding error of a mean divided by epsilon: noise of order 1 from nothing."""
    values = torch.full((1, count), value, dtype=dtype)
    response_mask = torch.ones(1, count, dtype=torch.bool)
    assert not losses.masked_whiten(values, response_mask).any()


def test_masked_whiten_without_response_tokens_is_zero() -> None:
    """Catches nan from an empty selection."""
    values = torch.full((2, 3), math.nan)
    assert not losses.masked_whiten(values, torch.zeros(2, 3, dtype=torch.bool)).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_masked_whiten_has_mean_zero_and_variance_one(dtype: torch.dtype) -> None:
    """Catches a scale that depends on the offset or the dtype."""
    response_mask, (values,) = random_ragged(1, 1, dtype)
    whitened = losses.masked_whiten(1000 + 3 * values, response_mask)
    assert whitened.dtype == dtype
    assert not whitened[~response_mask].any()
    tokens = whitened[response_mask].double()
    assert abs(tokens.mean()) < 1e-6
    assert abs(tokens.square().mean() - 1) < 1e-6


# KL and entropy


def brute_force_kl(logits: Tensor, ref_logits: Tensor) -> float:
    def logprobs(row: Tensor) -> list[float]:
        total = math.fsum(math.exp(logit) for logit in row.tolist())
        return [logit - math.log(total) for logit in row.tolist()]

    pairs = zip(logprobs(logits), logprobs(ref_logits), strict=True)
    return math.fsum(math.exp(new) * (new - ref) for new, ref in pairs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_full_kl_equals_brute_force(dtype: torch.dtype) -> None:
    """Catches the reversed direction, a missing normalisation and a sum over the wrong axis."""
    logits = random_logits(3, 4, 11, seed=1, dtype=dtype)
    ref_logits = random_logits(3, 4, 11, seed=2, dtype=dtype)
    kl = losses.full_kl(logits, ref_logits)
    assert kl.shape == (3, 4)
    assert kl.dtype == dtype
    for row, column in response_positions(torch.ones(3, 4)):
        expected = brute_force_kl(logits[row, column], ref_logits[row, column])
        assert kl[row, column].item() == pytest.approx(expected, abs=TOLERANCE[dtype])


def test_full_kl_by_hand() -> None:
    """Catches bits for nats: KL((3/4, 1/4) ‖ (1/2, 1/2)) = 3/4 log 3/2 + 1/4 log 1/2."""
    kl = losses.full_kl(torch.tensor([3.0, 1.0]).log(), torch.zeros(2))
    assert kl.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-6)


def test_full_kl_takes_packed_positions_and_ignores_a_shift_of_the_logits() -> None:
    """Catches a function tied to (B, T, V), and one that reads logits as log-probs."""
    logits, ref_logits = random_logits(2, 3, 5, seed=1), random_logits(2, 3, 5, seed=2)
    packed = losses.full_kl(logits.flatten(0, 1) + 50, ref_logits.flatten(0, 1) - 50)
    torch.testing.assert_close(packed.view(2, 3), losses.full_kl(logits, ref_logits))


def test_full_kl_of_equal_logits_is_exactly_zero() -> None:
    """Catches a KL that starts above zero at step 0."""
    logits = random_logits(4, 100, dtype=torch.float32)
    assert not losses.full_kl(logits, logits.clone()).any()


def test_low_precision_logits_are_reduced_in_float32() -> None:
    """Catches accumulation in bfloat16, which loses a vocabulary's small terms."""
    logits = random_logits(3, 5000, seed=1).bfloat16()
    ref_logits = random_logits(3, 5000, seed=2).bfloat16()
    kl, nats = losses.full_kl(logits, ref_logits), losses.entropy(logits)
    assert kl.dtype == nats.dtype == torch.float32
    exact = losses.full_kl(logits.double(), ref_logits.double())
    torch.testing.assert_close(kl.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(nats.double(), losses.entropy(logits.double()), rtol=1e-5, atol=1e-5)


def test_a_banned_token_leaves_kl_entropy_and_gradients_finite() -> None:
    """Catches 0 · inf where the policy gives a token no probability at all."""
    logits = random_logits(2, 5, dtype=torch.float32)
    logits[:, 2] = torch.finfo(torch.float32).min
    logits.requires_grad_()
    total = losses.full_kl(logits, random_logits(2, 5, seed=3).float()) + losses.entropy(logits)
    total.sum().backward()
    assert total.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_kl_and_entropy_have_the_right_gradients() -> None:
    """Catches a detached factor: the KL in the loss would then push nowhere, or elsewhere."""
    logits = random_logits(2, 4, seed=1).requires_grad_()
    ref_logits = random_logits(2, 4, seed=2)
    assert torch.autograd.gradcheck(lambda x: losses.full_kl(x, ref_logits), logits)
    assert torch.autograd.gradcheck(losses.entropy, logits)
    kl = losses.full_kl(logits, ref_logits)
    (gradient,) = torch.autograd.grad(kl.sum(), logits)
    log_ratio = logits.log_softmax(-1) - ref_logits.log_softmax(-1)
    dense = logits.softmax(-1) * (log_ratio - kl[:, None])
    torch.testing.assert_close(gradient, dense)


def test_entropy_by_hand() -> None:
    """Catches the sign, the base, and logits taken for probabilities."""
    assert losses.entropy(torch.zeros(3, 8)).tolist() == pytest.approx([math.log(8)] * 3)
    certain = losses.entropy(torch.tensor([100.0, 0.0]))
    assert certain.item() == pytest.approx(0.0, abs=1e-6)


def test_sampled_estimators_by_hand() -> None:
    """Catches a swapped ratio in k3 and a missing half in k2."""
    logprobs, ref_logprobs = torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.0])
    expected = {
        "k1": [1.0, -1.0],
        "k2": [0.5, 0.5],
        "k3": [math.exp(-1) - 1 + 1, math.exp(1) - 1 - 1],
        "abs": [1.0, 1.0],
        "mse": [0.5, 0.5],
    }
    assert set(losses.KL_ESTIMATORS) == set(expected)
    for name, estimate in losses.KL_ESTIMATORS.items():
        kl = estimate(logprobs, ref_logprobs)
        assert kl.tolist() == pytest.approx(expected[name], abs=1e-6), name


def test_the_config_names_every_kl_estimator() -> None:
    """Catches a name that the config accepts and no function answers to, or the reverse."""
    allowed = get_args(get_type_hints(AlgorithmConfig)["kl_estimator"])
    assert set(allowed) == {"full", *losses.KL_ESTIMATORS}


@pytest.fixture
def policy_and_reference() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a policy over 6 tokens, its log-probs, and those of its reference."""
    logits = random_logits(6, seed=1).requires_grad_()
    return logits, logits.log_softmax(-1), random_logits(6, seed=2).log_softmax(-1)


@pytest.mark.parametrize("name", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(
    name: str, policy_and_reference: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Catches an estimator of another divergence: its exact mean over all tokens is the KL."""
    _, logprobs, ref_logprobs = policy_and_reference
    mean = (logprobs.exp() * losses.KL_ESTIMATORS[name](logprobs, ref_logprobs)).sum()
    torch.testing.assert_close(mean, losses.full_kl(logprobs, ref_logprobs))


@pytest.mark.parametrize("name", ["k2", "k3", "abs"])
def test_all_but_k1_are_never_negative(name: str) -> None:
    """Catches a sign error, which would reward leaving the reference."""
    logprobs, ref_logprobs = -random_logits(500, seed=1).abs(), -random_logits(500, seed=2).abs()
    assert (losses.KL_ESTIMATORS[name](logprobs, ref_logprobs) >= 0).all()


def test_what_each_estimator_does_as_a_loss_and_as_a_reward(
    policy_and_reference: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Prevents another mean gradient than docs/explanation/algorithm.md says."""
    logits, logprobs, ref_logprobs = policy_and_reference
    weights = logprobs.detach().exp()

    def mean_gradient_as_loss(name: str) -> Tensor:
        loss = (weights * losses.KL_ESTIMATORS[name](logprobs, ref_logprobs)).sum()
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    def mean_gradient_as_reward(name: str) -> Tensor:
        kl = losses.KL_ESTIMATORS[name](logprobs, ref_logprobs).detach()
        return torch.autograd.grad((weights * kl * logprobs).sum(), logits, retain_graph=True)[0]

    forward = losses.full_kl(logits, ref_logprobs)
    (forward_gradient,) = torch.autograd.grad(forward, logits, retain_graph=True)
    (reversed_gradient,) = torch.autograd.grad(
        losses.full_kl(ref_logprobs, logits), logits, retain_graph=True
    )
    torch.testing.assert_close(mean_gradient_as_loss("k1"), torch.zeros_like(logits))
    torch.testing.assert_close(mean_gradient_as_loss("k2"), forward_gradient)
    torch.testing.assert_close(mean_gradient_as_loss("k3"), reversed_gradient)
    torch.testing.assert_close(mean_gradient_as_reward("k1"), forward_gradient)
    torch.testing.assert_close(mean_gradient_as_reward("k3"), forward_gradient - reversed_gradient)


def test_what_the_full_kl_in_the_reward_lacks() -> None:
    """Prevents another gradient than docs/explanation/algorithm.md says, over all nine answers.

    The exact gradient of a sequence's KL is the score-function gradient that any unbiased reward
    gives. With k1 in the reward it is complete; with the full KL the direct term is missing.
    """
    first = random_logits(3, seed=1).requires_grad_()
    second = random_logits(3, 3, seed=2).requires_grad_()
    ref_first, ref_second = random_logits(3, seed=3), random_logits(3, 3, seed=4)
    parameters = (first, second)
    logprobs = first.log_softmax(-1)[:, None], second.log_softmax(-1)  # of token 1, of token 2
    ref_logprobs = ref_first.log_softmax(-1)[:, None], ref_second.log_softmax(-1)
    full = losses.full_kl(first, ref_first), losses.full_kl(second, ref_second)[:, None]
    probability = (logprobs[0] + logprobs[1]).exp()

    def gradient(objective: Tensor) -> Tensor:
        parts = torch.autograd.grad(objective, parameters, retain_graph=True, allow_unused=True)
        return torch.cat([part.flatten() for part in parts if part is not None])

    def as_reward(kl_1: Tensor, kl_2: Tensor) -> Tensor:
        to_go = (kl_1 + kl_2).detach(), kl_2.detach()
        score = logprobs[0] * to_go[0] + logprobs[1] * to_go[1]
        return gradient((probability.detach() * score).sum())

    exact = gradient(full[0] + (probability.sum(1, keepdim=True) * full[1]).sum())
    k1_in_reward = as_reward(*map(losses.k1, logprobs, ref_logprobs))
    full_in_reward = as_reward(*full)
    direct = gradient((probability.detach() * (full[0] + full[1])).sum())
    torch.testing.assert_close(k1_in_reward, exact)
    torch.testing.assert_close(full_in_reward + direct, exact)
    assert (full_in_reward - exact).abs().max() > 0.1


# Token rewards


def test_token_rewards_by_hand() -> None:
    """Catches a reward on the last column instead of the last token, and garbage from padding."""
    kl = torch.tensor([[0.5, 1.0, math.nan], [2.0, math.inf, -math.inf], [1.0, 1.0, 1.0]])
    response_mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    rewards = losses.token_rewards(torch.tensor([10.0, 20.0, 30.0]), kl, response_mask, 0.1)
    expected = torch.tensor([[-0.05, 9.9, 0.0], [19.8, 0.0, 0.0], [-0.1, -0.1, 29.9]])
    torch.testing.assert_close(rewards, expected)


def test_token_rewards_without_response_tokens_are_zero() -> None:
    """Catches an argmax that finds a last token where there is none."""
    rewards = losses.token_rewards(
        torch.tensor([math.nan]), torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.bool), 1.0
    )
    assert rewards.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
@settings(max_examples=60)
def test_token_rewards_equal_brute_force_for_any_mask(
    dtype: torch.dtype, rows: list[list[bool]]
) -> None:
    """Catches a last token found by counting, which is wrong for left padding and for gaps."""
    response_mask = torch.tensor(rows)
    kl = torch.arange(response_mask.numel(), dtype=dtype).view(response_mask.shape) / 7
    team_reward = torch.arange(1, len(rows) + 1, dtype=dtype)
    rewards = losses.token_rewards(team_reward, kl, response_mask, torch.tensor(0.3, dtype=dtype))
    for row, is_response in enumerate(rows):
        columns = [column for column in range(5) if is_response[column]]
        expected = [0.0] * 5
        for column in columns:
            expected[column] = -0.3 * kl[row, column].item()
        if columns:
            expected[columns[-1]] += team_reward[row].item()
        assert rewards[row].tolist() == pytest.approx(expected, abs=TOLERANCE[dtype])


# Clipped losses


def test_policy_loss_by_hand() -> None:
    """Catches clipping of the wrong side: a clip only ever takes away an incentive."""
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5, 1.1]])
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0, 2.0]])
    result = losses.policy_loss(
        ratio.log(), torch.zeros(1, 5), advantages, torch.ones(1, 5, dtype=torch.bool), 0.2, 5
    )
    assert result.loss.item() == pytest.approx((-1.2 - 0.5 + 1.5 + 0.8 - 2.2) / 5)
    assert result.clip_fraction.item() == pytest.approx(2 / 5)
    kl_to_old = sum(r - 1 - math.log(r) for r in ratio[0].tolist()) / 5
    assert result.approx_kl.item() == pytest.approx(kl_to_old)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(3))
def test_policy_loss_equals_brute_force(seed: int, dtype: torch.dtype) -> None:
    """Catches a wrong normalisation, and padding that leaks into the sums."""
    response_mask, tensors = random_ragged(seed, 3, dtype)
    logprobs, old_logprobs, advantages = tensors
    result = losses.policy_loss(*tensors, response_mask, 0.2, num_tokens=40)
    loss = num_clipped = moved = 0.0
    for at in response_positions(response_mask):
        log_ratio = logprobs[at].item() - old_logprobs[at].item()
        ratio, advantage = math.exp(log_ratio), advantages[at].item()
        clipped_ratio = min(max(ratio, 0.8), 1.2)
        loss -= min(ratio * advantage, clipped_ratio * advantage)
        num_clipped += clipped_ratio * advantage < ratio * advantage
        moved += ratio - 1 - log_ratio
    assert result.loss.item() == pytest.approx(loss / 40, abs=TOLERANCE[dtype])
    assert result.clip_fraction.item() == pytest.approx(num_clipped / 40)
    assert result.approx_kl.item() == pytest.approx(moved / 40, abs=TOLERANCE[dtype])


def test_first_policy_gradient_is_that_of_reinforce() -> None:
    """Catches a factor at ratio 1, where both branches of the maximum are equal."""
    response_mask, (old_logprobs, advantages) = random_ragged(3, 2)
    logprobs = old_logprobs.clone().requires_grad_()
    losses.policy_loss(
        logprobs, old_logprobs, advantages, response_mask, 0.2, num_tokens=18
    ).loss.backward()
    torch.testing.assert_close(logprobs.grad, -losses.zero_padding(advantages, response_mask) / 18)


@pytest.mark.parametrize("cliprange_value", [0.2, 1, None])
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_loss_equals_brute_force(cliprange_value: float | None, dtype: torch.dtype) -> None:
    """Catches a clip around the returns, a missing half, and the minimum for the maximum."""
    response_mask, tensors = random_ragged(5, 3, dtype)
    values, old_values, returns = tensors
    result = losses.value_loss(*tensors, response_mask, cliprange_value, num_tokens=40)
    limit = cliprange_value or math.inf
    loss = num_clipped = 0.0
    for at in response_positions(response_mask):
        value, old_value = values[at].item(), old_values[at].item()
        clipped_value = min(max(value, old_value - limit), old_value + limit)
        errors = (value - returns[at].item()) ** 2, (clipped_value - returns[at].item()) ** 2
        loss += 0.5 * max(errors)
        num_clipped += errors[1] > errors[0]
    assert result.loss.item() == pytest.approx(loss / 40, abs=TOLERANCE[dtype])
    assert result.clip_fraction.item() == pytest.approx(num_clipped / 40)


def test_value_loss_by_hand() -> None:
    """Catches the unclipped loss where the clip binds: 0.5 · max(0², (0.2 − 1)²)."""
    one = torch.ones(1, 1)
    result = losses.value_loss(one, 0 * one, one, one.bool(), 0.2, 1)
    assert result.loss.item() == pytest.approx(0.32)
    assert result.clip_fraction == 1.0


def test_rounding_does_not_count_as_clipping() -> None:
    """Catches old + clamp(new − old), which differs from new in the last digit."""
    generator = torch.Generator().manual_seed(0)
    old_values = torch.randn(50, 20, generator=generator)
    values = old_values + 0.1 * torch.rand(50, 20, generator=generator)
    returns = torch.randn(50, 20, generator=generator)
    response_mask = torch.ones(50, 20, dtype=torch.bool)
    for cliprange_value in (0.2, None):
        result = losses.value_loss(
            values, old_values, returns, response_mask, cliprange_value, 1000
        )
        assert result.clip_fraction == 0.0


def policy_loss_of(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    num_tokens: losses.Scalar,
) -> losses.PolicyLoss:
    return losses.policy_loss(logprobs, old_logprobs, advantages, response_mask, 0.2, num_tokens)


def value_loss_of(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    response_mask: Tensor,
    num_tokens: losses.Scalar,
) -> losses.ValueLoss:
    return losses.value_loss(values, old_values, returns, response_mask, 0.2, num_tokens)


ClippedLoss = Callable[
    [Tensor, Tensor, Tensor, Tensor, losses.Scalar], losses.PolicyLoss | losses.ValueLoss
]
CLIPPED_LOSSES: list[ClippedLoss] = [policy_loss_of, value_loss_of]


@pytest.mark.parametrize("clipped_loss", CLIPPED_LOSSES)
def test_clipped_losses_have_the_right_gradients(clipped_loss: ClippedLoss) -> None:
    """Catches a gradient through the wrong branch, or through a statistic."""
    response_mask, tensors = random_ragged(7, 3)
    current, old, target = (tensor.nan_to_num() for tensor in tensors)
    current.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: clipped_loss(x, old, target, response_mask, 18).loss, current
    )
    result = clipped_loss(current, old, target, response_mask, 18)
    assert [field for field in result._fields if getattr(result, field).requires_grad] == ["loss"]


@pytest.mark.parametrize("clipped_loss", CLIPPED_LOSSES)
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
def test_padding_gives_no_gradient_and_no_nan(clipped_loss: ClippedLoss, garbage: float) -> None:
    """Catches masking after the exp: 0 · inf = nan in the backward pass."""
    response_mask, tensors = random_ragged(8, 3)
    current, old, target = (tensor.masked_fill(~response_mask, garbage) for tensor in tensors)
    current.requires_grad_()
    result = clipped_loss(current, 0 * old.nan_to_num(), target, response_mask, 18)
    result.loss.backward()
    assert all(field.isfinite() for field in result)
    assert current.grad is not None
    assert current.grad[response_mask].isfinite().all()
    assert not current.grad[~response_mask].any()


@pytest.mark.parametrize("clipped_loss", CLIPPED_LOSSES)
@pytest.mark.parametrize("micro_batch_size", [1, 2, 4, 6])
def test_micro_batches_add_up_to_the_mini_batch(
    clipped_loss: ClippedLoss, micro_batch_size: int
) -> None:
    """Catches a mean per micro-batch, which weighs tokens by the company they keep."""
    response_mask, tensors = random_ragged(9, 3)
    num_tokens = response_mask.sum()

    def losses_and_gradient(size: int) -> tuple[list[Tensor], Tensor]:
        current = tensors[0].clone().requires_grad_()
        parts = []
        for rows in torch.arange(6).split(size):
            columns = slice(0, max(1, int(response_mask[rows].sum(1).max())))
            pieces = (tensor[rows, columns] for tensor in (current, *tensors[1:], response_mask))
            parts.append(clipped_loss(*pieces, num_tokens))
            parts[-1].loss.backward()
        assert current.grad is not None
        return [torch.stack(field).sum() for field in zip(*parts, strict=True)], current.grad

    whole, whole_gradient = losses_and_gradient(6)
    summed, summed_gradient = losses_and_gradient(micro_batch_size)
    torch.testing.assert_close(summed, whole)
    torch.testing.assert_close(summed_gradient, whole_gradient)


@pytest.mark.parametrize("clipped_loss", CLIPPED_LOSSES)
def test_losses_do_not_depend_on_padding_width_or_order(clipped_loss: ClippedLoss) -> None:
    """Catches any use of the padded width or of a row's place."""
    response_mask, tensors = random_ragged(10, 3)
    expected = clipped_loss(*tensors, response_mask, 18)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    wider = [torch.nn.functional.pad(tensor, (2, 3), value=math.nan)[order] for tensor in tensors]
    wider_mask = torch.nn.functional.pad(response_mask, (2, 3), value=False)[order]
    torch.testing.assert_close(clipped_loss(*wider, wider_mask, 18), expected)


# Adaptive coefficient


@pytest.mark.parametrize(
    ("observed_kl", "expected"),
    [(6.0, 0.1), (6.6, 0.1 * 1.01), (60.0, 0.1 * 1.02), (5.4, 0.1 * 0.99), (0.0, 0.1 * 0.98)],
)
def test_next_kl_coef_by_hand(observed_kl: float, expected: float) -> None:
    """Catches a reversed sign (too much KL must raise η) and an unclipped error."""
    kl_coef = losses.next_kl_coef(0.1, observed_kl, kl_target=6.0, num_samples=1, kl_horizon=10)
    assert kl_coef == pytest.approx(expected)
