"""Advantages against hand-worked numbers, brute force and invariances."""

import math
from collections.abc import Callable
from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cory.algorithm import advantages as estimators
from cory.algorithm.advantages import ESTIMATORS
from cory.algorithm.losses import masked_whiten
from cory.config.themes import AlgorithmConfig

LENGTHS = [4, 6, 1, 3, 6, 2]


def ragged_mask(lengths: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def random_ragged(
    seed: int, lengths: list[int] = LENGTHS, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards and values that hold nan on padding, and the mask."""
    generator = torch.Generator().manual_seed(seed)
    response_mask = ragged_mask(lengths, width=6)
    token_rewards, values = torch.randn(2, len(lengths), 6, generator=generator, dtype=dtype)
    return (
        token_rewards.masked_fill(~response_mask, math.nan),
        values.masked_fill(~response_mask, math.nan),
        response_mask,
    )


def brute_force_gae(
    token_rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, lam: float
) -> Tensor:
    """The sum Σ_k (γλ)^k δ_{t+k}, written out over the response tokens of each sequence."""
    advantages = torch.zeros(response_mask.shape, dtype=torch.float64)
    for row, is_response in enumerate(response_mask):
        columns = is_response.nonzero().flatten().tolist()
        rewards = [token_rewards[row, column].item() for column in columns]
        state_values = [values[row, column].item() for column in columns] + [0.0]
        for start, column in enumerate(columns):
            for k in range(len(columns) - start):
                at = start + k
                error = rewards[at] + gamma * state_values[at + 1] - state_values[at]
                advantages[row, column] += (gamma * lam) ** k * error
    return advantages


def by_name(
    name: str, token_rewards: Tensor, values: Tensor | None, response_mask: Tensor
) -> tuple[Tensor, Tensor]:
    return ESTIMATORS[name].compute(token_rewards, values, response_mask, 0.9, 0.8, 2)


# Generalised advantage estimation


def test_gae_by_hand() -> None:
    """Catches a bootstrap from padding: the value after the last token is 0."""
    token_rewards = torch.tensor([[1.0, 2.0, math.nan], [4.0, math.nan, math.nan]])
    values = torch.tensor([[0.5, 1.0, 99.0], [1.0, 99.0, 99.0]])
    advantages, returns = estimators.gae(
        token_rewards, values, ragged_mask([2, 1], 3), gamma=0.5, lam=0.5
    )
    # Last token: 2 − 1 = 1. First: 1 + 0.5 · 1 − 0.5 = 1, plus 0.25 · 1.
    torch.testing.assert_close(advantages, torch.tensor([[1.25, 1.0, 0.0], [3.0, 0.0, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[1.75, 2.0, 0.0], [4.0, 0.0, 0.0]]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("gamma", "lam"), [(1, 0.95), (0.9, 0.8), (0.99, 0), (1.0, 1.0)])
def test_gae_equals_brute_force(
    gamma: float, lam: float, dtype: torch.dtype, tolerance: float
) -> None:
    """Catches an off-by-one in the recursion and any influence of padding."""
    for seed in range(5):
        token_rewards, values, response_mask = random_ragged(seed, [0, *LENGTHS], dtype)
        advantages, returns = estimators.gae(token_rewards, values, response_mask, gamma, lam)
        expected = brute_force_gae(token_rewards, values, response_mask, gamma, lam)
        assert advantages.dtype == returns.dtype == dtype
        torch.testing.assert_close(advantages.double(), expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(
            returns.double(),
            (expected + values).masked_fill(~response_mask, 0).double(),
            rtol=0,
            atol=tolerance,
        )


@given(
    rows=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=6),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
)
@settings(max_examples=60)
def test_gae_takes_any_mask(rows: list[list[bool]], gamma: float, lam: float) -> None:
    """Catches a chain cut by left padding or by a gap: such tokens count as not there."""
    token_rewards, values, _ = random_ragged(0, [6] * len(rows))
    response_mask = torch.tensor(rows)
    advantages, _ = estimators.gae(token_rewards, values, response_mask, gamma, lam)
    expected = brute_force_gae(token_rewards, values, response_mask, gamma, lam)
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-12)


def test_gae_with_lam_one_is_the_reward_to_go_minus_the_value() -> None:
    """Catches a λ applied to the reward rather than to the error."""
    token_rewards, values, response_mask = random_ragged(1)
    advantages, returns = estimators.gae(token_rewards, values, response_mask, 0.9, 1.0)
    to_go = estimators.reward_to_go(token_rewards, response_mask, 0.9)
    torch.testing.assert_close(returns, to_go)
    torch.testing.assert_close(advantages, (to_go - values).masked_fill(~response_mask, 0.0))


def test_gae_of_exact_values_is_zero() -> None:
    """Catches a biased error: if every value is the true return, nothing is an advantage."""
    token_rewards, _, response_mask = random_ragged(2)
    values = estimators.reward_to_go(token_rewards, response_mask, 0.9)
    advantages, returns = estimators.gae(token_rewards, values, response_mask, 0.9, 0.7)
    torch.testing.assert_close(advantages, torch.zeros_like(values))
    torch.testing.assert_close(returns, values)


# Estimators without a value function


def test_reward_to_go_by_hand() -> None:
    """Catches a forward sum."""
    token_rewards = torch.tensor([[1.0, 2.0, 4.0], [3.0, math.nan, math.inf]])
    response_mask = ragged_mask([3, 1], 3)
    discounted = estimators.reward_to_go(token_rewards, response_mask, 0.5)
    torch.testing.assert_close(discounted, torch.tensor([[3.0, 4.0, 4.0], [3.0, 0.0, 0.0]]))
    undiscounted = estimators.reward_to_go(token_rewards, response_mask, 1)
    torch.testing.assert_close(undiscounted, torch.tensor([[7.0, 6.0, 4.0], [3.0, 0.0, 0.0]]))


def test_batch_mean_by_hand() -> None:
    """Catches a baseline averaged over sequences, or over padding."""
    token_rewards = torch.tensor([[1.0, 2.0], [6.0, math.nan]])
    advantages = estimators.batch_mean(token_rewards, ragged_mask([2, 1], 2), 1)
    torch.testing.assert_close(
        advantages, torch.tensor([[3 - 11 / 3, 2 - 11 / 3], [6 - 11 / 3, 0]])
    )


def test_whitening_makes_batch_mean_reinforce_plus_plus() -> None:
    """Catches a baseline that whitening would not absorb."""
    token_rewards, _, response_mask = random_ragged(3)
    torch.testing.assert_close(
        masked_whiten(estimators.batch_mean(token_rewards, response_mask, 1), response_mask),
        masked_whiten(estimators.reward_to_go(token_rewards, response_mask, 1), response_mask),
    )


@pytest.fixture
def two_groups() -> tuple[Tensor, Tensor]:
    """Answers that earn 1, 5 and 0, 6, the first of them over two tokens."""
    token_rewards = torch.tensor([[-1.0, 2.0], [5.0, math.nan], [0.0, 0.0], [6.0, math.nan]])
    return token_rewards, ragged_mask([2, 1, 2, 1], 2)


def test_group_by_hand(two_groups: tuple[Tensor, Tensor]) -> None:
    """Catches groups taken across queries, the biased std, and tokens paid apart."""
    first = 2 / (math.sqrt(8) + 1e-4)
    second = 3 / (math.sqrt(18) + 1e-4)
    expected = torch.tensor([[-first, -first], [first, 0], [-second, -second], [second, 0]])
    torch.testing.assert_close(estimators.group(*two_groups, num_generations=2), expected)


def test_leave_one_out_by_hand(two_groups: tuple[Tensor, Tensor]) -> None:
    """Catches a baseline that holds the answer itself."""
    expected = torch.tensor([[-4.0, -4.0], [4.0, 0.0], [-6.0, -6.0], [6.0, 0.0]])
    torch.testing.assert_close(estimators.leave_one_out(*two_groups, num_generations=2), expected)


@pytest.mark.parametrize("num_generations", [2, 3, 6])
def test_group_baselines_equal_brute_force(num_generations: int) -> None:
    """Catches a wrong N / (N − 1) and a group laid out down the wrong axis."""
    token_rewards, _, response_mask = random_ragged(4)
    grouped = estimators.group(token_rewards, response_mask, num_generations)
    left_out = estimators.leave_one_out(token_rewards, response_mask, num_generations)
    totals = [
        sum(reward for reward in row if not math.isnan(reward)) for row in token_rewards.tolist()
    ]
    for row, column in response_mask.nonzero().tolist():
        start = row - row % num_generations
        group = totals[start : start + num_generations]
        mean = sum(group) / num_generations
        std = math.sqrt(sum((total - mean) ** 2 for total in group) / (num_generations - 1))
        others = [totals[other] for other in range(start, start + num_generations) if other != row]
        assert grouped[row, column].item() == pytest.approx((totals[row] - mean) / (std + 1e-4))
        assert left_out[row, column].item() == pytest.approx(
            totals[row] - sum(others) / len(others)
        )


@pytest.mark.parametrize("advantages_of", [estimators.group, estimators.leave_one_out])
@given(reward=st.floats(-1e4, 1e4, width=32), num_generations=st.integers(2, 9))
@settings(max_examples=60)
def test_equal_answers_have_no_advantage(
    advantages_of: Callable[[Tensor, Tensor, int], Tensor], reward: float, num_generations: int
) -> None:
    """Catches 0 / 0, and the rounding error of a mean divided by epsilon."""
    token_rewards = torch.full((num_generations, 1), reward)
    response_mask = torch.ones(num_generations, 1, dtype=torch.bool)
    assert not advantages_of(token_rewards, response_mask, num_generations).any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("group", [-1 / (1 + 1e-4), 1 / (1 + 1e-4), 0.0, 0.0]),
        ("leave_one_out", [-1.5, 1.5, 0.0, 0.0]),
        ("batch_mean", [-1.0, 1.0, 0.0, 0.0]),
        ("reinforce", [5.0, 7.0, 0.0, 6.0]),
        ("gae", [4.0, 6.0, 0.0, 5.0]),
    ],
)
def test_an_answer_left_out_by_hand(name: str, expected: list[float]) -> None:
    """Prevents [5, 7, None, 6] from being compared with 0: it is compared with 6."""
    token_rewards, values = torch.tensor([[5.0], [7.0], [math.nan], [6.0]]), torch.ones(4, 1)
    response_mask = ~token_rewards.isnan()
    advantages, _ = ESTIMATORS[name].compute(token_rewards, values, response_mask, 1.0, 1.0, 4)
    torch.testing.assert_close(advantages.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("name", ESTIMATORS)
@given(left_out=st.lists(st.booleans(), min_size=6, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_answers_left_out_are_in_no_baseline(name: str, left_out: list[bool], seed: int) -> None:
    """Prevents a declined answer from counting in a mean, a deviation or the size of a group.

    Two groups of 3; each query alone, without the rows left out, is the brute force.
    """
    token_rewards, values, response_mask = random_ragged(seed)
    rows = torch.tensor(left_out)
    hidden = response_mask & ~rows[:, None]
    compute = ESTIMATORS[name].compute
    together = compute(token_rewards, values, hidden, 0.9, 0.8, 3)
    assert not any(result[rows].any() for result in together)
    parts = [[0, 1, 2], [3, 4, 5]] if name in ("group", "leave_one_out") else [list(range(6))]
    for part in parts:
        kept = [row for row in part if not left_out[row]]
        if len(kept) > 1 or (kept and len(parts) == 1):
            inputs = (tensor[kept] for tensor in (token_rewards, values, response_mask))
            alone = compute(*inputs, 0.9, 0.8, len(kept))
            torch.testing.assert_close([result[kept] for result in together], list(alone))
        elif kept:
            assert not together[0][kept].any(), "one that is alone has nothing to be compared with"


@pytest.mark.parametrize("advantages_of", [estimators.group, estimators.leave_one_out])
def test_broken_groups_are_refused(advantages_of: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    """Catches answers to different queries compared with each other, and a division by zero."""
    token_rewards, _, response_mask = random_ragged(5)
    with pytest.raises(ValueError, match=r"num_generations=1: .* 2 or more"):
        advantages_of(token_rewards, response_mask, 1)
    with pytest.raises(ValueError, match="num_generations=4 does not divide the batch of 6"):
        advantages_of(token_rewards, response_mask, 4)


# The table


def test_the_config_names_every_estimator() -> None:
    """Catches a name that the config accepts and the table does not know, or the reverse."""
    allowed = get_args(get_type_hints(AlgorithmConfig)["advantage_estimator"])
    assert set(allowed) == set(ESTIMATORS)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_padding_is_zero_whatever_it_holds(name: str) -> None:
    """Catches results on padding, which would enter sums that are not masked."""
    token_rewards, values, response_mask = random_ragged(6)
    results = by_name(name, token_rewards, values, response_mask)
    for garbage in (0.0, math.inf, 1e30):
        filled = (x.masked_fill(~response_mask, garbage) for x in (token_rewards, values))
        again = by_name(name, *filled, response_mask)
        assert all(map(torch.equal, results, again))
    assert not any(result[~response_mask].any() for result in results)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_do_not_depend_on_padding_width(name: str) -> None:
    """Catches any use of the padded width."""
    *tensors, response_mask = random_ragged(7)
    wider = (torch.nn.functional.pad(tensor, (2, 3), value=math.nan) for tensor in tensors)
    wider_mask = torch.nn.functional.pad(response_mask, (2, 3), value=False)
    expected = by_name(name, *tensors, response_mask)
    results = [result[:, 2:-3] for result in by_name(name, *wider, wider_mask)]
    torch.testing.assert_close(results, list(expected))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_follow_their_queries(name: str) -> None:
    """Catches estimates that depend on the order of the queries in the batch."""
    inputs = random_ragged(8)
    order = torch.tensor([4, 5, 0, 1, 2, 3])
    expected = [result[order] for result in by_name(name, *inputs)]
    results = by_name(name, *(tensor[order] for tensor in inputs))
    torch.testing.assert_close(list(results), expected)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "batch_mean"])
def test_estimates_of_a_query_do_not_depend_on_the_batch(name: str) -> None:
    """Catches leaks between queries, and squeezes that break a batch of one query."""
    inputs = random_ragged(9)
    for start in (0, 2, 4):
        rows = slice(start, start + (2 if name in ("group", "leave_one_out") else 1))
        alone = by_name(name, *(tensor[rows] for tensor in inputs))
        together = [result[rows] for result in by_name(name, *inputs)]
        torch.testing.assert_close(list(alone), together)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_value_free_estimators_take_no_values(name: str) -> None:
    """Catches a value function that is trained, or needed, without being used."""
    token_rewards, values, response_mask = random_ragged(10)
    advantages, returns = by_name(name, token_rewards, values, response_mask)
    if ESTIMATORS[name].uses_values:
        torch.testing.assert_close(returns, (advantages + values).masked_fill(~response_mask, 0.0))
        return
    without = by_name(name, token_rewards, None, response_mask)
    assert torch.equal(advantages, without[0])
    torch.testing.assert_close(returns, estimators.reward_to_go(token_rewards, response_mask, 0.9))
