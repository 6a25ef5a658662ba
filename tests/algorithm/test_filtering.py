"""Filtered distributions: the kept set by brute force, and what learning on it does, enumerated."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cory.algorithm import losses
from cory.algorithm.filtering import (
    TokenFilter,
    packed,
    restricted,
    restricted_to,
    unpacked,
)

FILTERS = [
    TokenFilter(top_p=0.7),
    TokenFilter(top_k=3),
    TokenFilter(min_p=0.2),
    TokenFilter(top_p=0.9, top_k=4, min_p=0.05),
]


def logits_of(seed: int, rows: int = 6, size: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(rows, size, generator=generator)


def by_brute_force(token_filter: TokenFilter, probs: list[float]) -> set[int]:
    """min_p, top_k and top_p one after the other, each on what is left, renormalised."""
    kept = {w for w, p in enumerate(probs) if p >= token_filter.min_p * max(probs)}
    if token_filter.top_k:
        kept = set(sorted(kept, key=lambda w: -probs[w])[: token_filter.top_k])
    total = sum(probs[w] for w in kept)
    smallest: set[int] = set()
    for word in sorted(kept, key=lambda w: -probs[w]):
        if sum(probs[w] for w in smallest) / total >= token_filter.top_p:
            break
        smallest.add(word)
    return smallest


@pytest.mark.parametrize("token_filter", FILTERS, ids=str)
@given(seed=st.integers(0, 10**6))
def test_the_kept_set_is_the_one_of_the_definition(token_filter: TokenFilter, seed: int) -> None:
    """Prevents a set that is a token too large or too small, or filters in another order."""
    logits = logits_of(seed).double()
    kept = token_filter.kept(logits)
    for row, probs in enumerate(logits.softmax(-1).tolist()):
        found = set(kept[row].nonzero().flatten().tolist())
        assert found == by_brute_force(token_filter, probs)


def test_sets_by_hand() -> None:
    """Prevents a wrong border: a set that has exactly top_p, ties, and a single likeliest token."""
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert TokenFilter(top_p=0.69).kept(logits).tolist() == [[True, True, False, False]]
    assert TokenFilter(top_p=0.71).kept(logits).tolist() == [[True, True, True, False]]
    assert TokenFilter(min_p=0.51).kept(logits).tolist() == [[True, True, False, False]]
    assert TokenFilter(top_p=1e-9).kept(logits).tolist() == [[True, False, False, False]]
    # Renormalised after top_k=2: 4/7 and 3/7.
    both = TokenFilter(top_k=2, top_p=0.55).kept(logits)
    assert both.tolist() == [[True, False, False, False]]
    ties = torch.tensor([[1.0, 2.0, 1.0, 0.0]])
    assert TokenFilter(top_k=2).kept(ties).tolist() == [[True, True, True, False]]
    assert TokenFilter(top_p=0.6).kept(ties).tolist() == [[True, True, True, False]]


def test_more_than_the_vocabulary_is_all_of_it() -> None:
    """Prevents an error where a model knows fewer tokens than top_k."""
    logits = logits_of(0)
    assert TokenFilter(top_k=1000).kept(logits).all()
    assert not TokenFilter().is_on
    assert TokenFilter().applied(logits) is logits
    assert all(token_filter.is_on for token_filter in FILTERS)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64])
def test_bits_are_what_was_packed(size: int) -> None:
    """Prevents a set that belongs to other tokens after it was stored."""
    kept = torch.rand(5, size, generator=torch.Generator().manual_seed(size)) < 0.5
    bits = packed(kept)
    assert bits.shape == (5, -(-size // 8))
    assert unpacked(bits, size).equal(kept)
    logits = torch.randn(5, size)
    assert restricted_to(logits, bits).equal(restricted(logits, kept))
    assert restricted_to(logits, None) is logits


def test_a_drawn_token_is_in_its_set() -> None:
    """Prevents a log-probability of −inf where two computations differ in the last digit."""
    logits = torch.tensor([[3.0, 0.0, 0.0], [3.0, 2.9, 0.0]])
    kept = unpacked(TokenFilter(top_k=2, top_p=0.5).kept_with(logits, torch.tensor([2, 0])), 3)
    assert kept.tolist() == [[True, False, True], [True, False, False]]


@pytest.mark.parametrize("token_filter", FILTERS, ids=str)
def test_what_is_excluded_has_no_part_and_no_gradient(token_filter: TokenFilter) -> None:
    """Prevents nan from 0 · −inf, in values and in gradients."""
    logits, reference = logits_of(1).requires_grad_(), logits_of(2)
    kept = token_filter.kept(logits.detach())
    left = restricted(logits, kept)
    probs = left.softmax(-1)
    exact = [
        (logits[row, kept[row]].softmax(0), reference[row, kept[row]].softmax(0))
        for row in range(len(logits))
    ]
    for row, (own, _) in enumerate(exact):
        torch.testing.assert_close(probs[row, kept[row]], own)
    assert not probs[~kept].any()
    entropies = torch.stack([-(own * own.log()).sum() for own, _ in exact])
    torch.testing.assert_close(losses.entropy(left), entropies)
    kl = losses.full_kl(left, restricted(reference, kept))
    expected = torch.stack([(own * (own / ref).log()).sum() for own, ref in exact])
    torch.testing.assert_close(kl, expected, rtol=1e-4, atol=1e-6)
    (gradient,) = torch.autograd.grad((losses.entropy(left) + kl).sum(), logits)
    (wanted,) = torch.autograd.grad((entropies + expected).sum(), logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
    assert not gradient[~kept].any()
    assert not losses.full_kl(left, left).any()


class TwoWords:
    """Answers of two words out of five, enumerated; the second word's logits depend on the first.

    `weights` (6, 5) are the parameters: the logits after nothing, and after each first word.
    """

    def __init__(self, seed: int, token_filter: TokenFilter) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.old = 1.2 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
        self.kept = token_filter.kept(self.old)
        self.rewards = torch.randn(5, 5, generator=generator, dtype=torch.float64)
        self.answers = list(itertools.product(range(5), range(5)))

    def logprobs(self, weights: Tensor, is_filtered: bool = True) -> Tensor:
        """Of both words of every answer (25, 2)."""
        logits = restricted(weights, self.kept) if is_filtered else weights
        every = logits.log_softmax(-1)
        return torch.stack([torch.stack([every[0, a], every[1 + a, b]]) for a, b in self.answers])

    @property
    def drawn_with(self) -> Tensor:
        """The probability of every answer when it is sampled (25,)."""
        return self.logprobs(self.old).sum(1).exp()


@pytest.mark.parametrize("token_filter", FILTERS, ids=str)
def test_the_ratio_is_between_distributions_on_the_same_tokens(token_filter: TokenFilter) -> None:
    """Prevents a ratio to another distribution: its mean over what is drawn would not be 1.

    Holds for any later weights, here far from those that drew. The unfiltered ratio, and one of
    the unfiltered new to the filtered old probability, fail.
    """
    words = TwoWords(0, token_filter)
    now = words.old + 0.8 * torch.randn(6, 5, generator=torch.Generator().manual_seed(9)).double()
    drawn = words.drawn_with
    assert float(drawn.sum()) == pytest.approx(1, abs=1e-12)
    assert (drawn == 0).any()
    is_drawn = drawn > 0

    def mean_ratio(new: Tensor, old: Tensor) -> float:
        ratios = (new - old).sum(1).exp()
        return float((drawn * ratios)[is_drawn].sum())

    filtered, plain = words.logprobs(words.old), words.logprobs(words.old, is_filtered=False)
    new, new_plain = words.logprobs(now), words.logprobs(now, is_filtered=False)
    assert mean_ratio(new, filtered) == pytest.approx(1, abs=1e-12)
    assert abs(mean_ratio(new_plain, plain) - 1) > 1e-2
    assert abs(mean_ratio(new_plain, filtered) - 1) > 1e-2


@pytest.mark.parametrize("token_filter", FILTERS, ids=str)
def test_the_gradient_is_that_of_the_reward_that_is_earned(token_filter: TokenFilter) -> None:
    """Prevents a policy gradient of an objective that nobody samples from.

    The reward that is earned is the mean over the filtered distribution. Its derivative, by finite
    differences with the filter applied anew, is the gradient of the loss; the unfiltered
    log-probabilities give another one.
    """
    words = TwoWords(1, token_filter)
    rewards = torch.stack([words.rewards[a, b] for a, b in words.answers])
    mask = torch.ones(25, 2, dtype=torch.bool)

    def earned(weights: Tensor) -> float:
        logprobs = [token_filter.applied(row[None]).log_softmax(-1)[0] for row in weights.unbind()]
        chances = [(logprobs[0][a] + logprobs[1 + a][b]).exp() for a, b in words.answers]
        return float(torch.stack(chances) @ rewards)

    expected = torch.zeros_like(words.old)
    for place in itertools.product(range(6), range(5)):
        step = torch.zeros_like(words.old)
        step[place] = 1e-6
        expected[place] = (earned(words.old + step) - earned(words.old - step)) / 2e-6

    def gradient(is_filtered: bool) -> Tensor:
        weights = words.old.clone().requires_grad_()
        now = words.logprobs(weights, is_filtered)
        advantages = (words.drawn_with * rewards)[:, None].expand(25, 2)
        loss = losses.policy_loss(now, now.detach(), advantages, mask, 0.2, 1).loss
        (found,) = torch.autograd.grad(-loss, weights)
        return found

    torch.testing.assert_close(gradient(True), expected, rtol=1e-5, atol=1e-7)
    assert (gradient(False) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("token_filter", FILTERS, ids=str)
def test_the_kl_is_zero_at_the_start_and_never_negative(token_filter: TokenFilter) -> None:
    """Prevents a reference on other tokens: the initial model would be punished for its filter."""
    words = TwoWords(2, token_filter)
    start = words.old + 0.5 * torch.randn(6, 5, generator=torch.Generator().manual_seed(3)).double()
    kl = losses.full_kl(restricted(words.old, words.kept), restricted(start, words.kept))
    assert (kl >= 0).all()
    assert not losses.full_kl(
        restricted(words.old, words.kept), restricted(words.old, words.kept)
    ).any()
    # k1 of what is drawn has it as its mean: Σ over answers of both words.
    drawn = words.drawn_with
    of_answers = (words.logprobs(words.old) - words.logprobs(start)).sum(1)
    first = words.logprobs(words.old)[::5, 0].exp()
    expected = kl[0] + (first * kl[1:]).sum()
    mean = (drawn * of_answers)[drawn > 0].sum()
    torch.testing.assert_close(mean, expected)
