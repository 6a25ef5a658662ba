"""The KL penalty by name, in the reward and in the loss."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cory.algorithm import losses
from cory.algorithm.advantages import reward_to_go
from cory.config.themes import AlgorithmConfig
from cory.models.batch import make_batch
from cory.models.scoring import TokenScorer
from cory.team.kl_penalty import KL_PENALTIES, KL_PLACEMENTS, LiveTokens
from tests.teams import disturb, make_team

BATCH = make_batch([[50, 51], [60]], [[80, 81, 82], [90, 91]])


def test_every_configurable_penalty_exists() -> None:
    """Prevents a documented choice that raises KeyError in the first iteration."""
    hints = get_type_hints(AlgorithmConfig)
    assert set(KL_PENALTIES) == set(get_args(hints["kl_estimator"]))
    assert set(KL_PLACEMENTS) == set(get_args(hints["kl_placement"]))


@pytest.mark.parametrize("name", KL_PENALTIES)
def test_reward_and_loss_agree_before_the_first_update(tiny_gpt2_dir: Path, name: str) -> None:
    """Prevents two definitions of one penalty; only the one in the loss carries a gradient."""
    team = make_team(tiny_gpt2_dir)
    policy, reference, mask = team.policies[0], team.reference, BATCH.response_mask
    disturb(policy, seed=0)
    penalty = KL_PENALTIES[name]
    scores = TokenScorer(reference, 0.7, keep_ref_hidden=True).score(policy, BATCH)
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


ETA, END, NUM_WORDS, LONGEST = 0.7, 0, 3, 3


class TinyPolicy:
    """Logits of the next word for every prefix, and every answer that can be given.

    An answer is up to three of three words; the first of them ends it.
    """

    def __init__(self) -> None:
        words = range(NUM_WORDS)
        every = itertools.product(words, repeat=LONGEST)
        cut = {a[: a.index(END) + 1] if END in a else a for a in every}
        self.answers = sorted(cut)
        prefixes = sorted({answer[:t] for answer in self.answers for t in range(len(answer))})
        generator = torch.Generator().manual_seed(0)
        shape = len(prefixes), NUM_WORDS
        self.logits = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.ref_logits = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.logits.requires_grad_()
        self.rewards = torch.randn(len(self.answers), generator=generator, dtype=torch.float64)
        padded = [[*answer, *[END] * LONGEST][:LONGEST] for answer in self.answers]
        self.words = torch.tensor(padded)
        lengths = torch.tensor(list(map(len, self.answers)))
        self.mask = torch.arange(LONGEST) < lengths[:, None]
        self.prefixes = torch.tensor(
            [
                [prefixes.index(answer[:t]) if t < len(answer) else 0 for t in range(LONGEST)]
                for answer in self.answers
            ]
        )

    def chosen(self, logits: Tensor) -> Tensor:
        every = logits.log_softmax(-1)[self.prefixes]
        return losses.zero_padding(every.gather(2, self.words[..., None])[..., 0], self.mask)

    def full_kl(self) -> Tensor:
        kl = losses.full_kl(self.logits, self.ref_logits)[self.prefixes]
        return losses.zero_padding(kl, self.mask)

    def probabilities(self) -> Tensor:
        return self.chosen(self.logits).sum(1).exp()

    def exact_gradient(self) -> Tensor:
        """Of −E[r − η Σ_t KL_t], through every probability and every KL."""
        value = (self.probabilities() * (self.rewards - ETA * self.full_kl().sum(1))).sum()
        (gradient,) = torch.autograd.grad(-value, self.logits)
        return gradient

    def gradients(self, estimator: str, placement: str) -> Tensor:
        """What the library's reward and loss give for each answer, by REINFORCE: (answers, …)."""
        place = KL_PLACEMENTS[placement]
        logprobs, full_kl = self.chosen(self.logits), self.full_kl()
        kl = {"full": full_kl, "k1": losses.k1(logprobs, self.chosen(self.ref_logits))}[estimator]
        charged = place.in_reward(kl.detach(), self.mask, 1.0)
        paid = losses.token_rewards(self.rewards, charged, self.mask, ETA)
        advantages = reward_to_go(paid, self.mask, 1.0)
        found = []
        for row in range(len(self.answers)):
            one = slice(row, row + 1)
            loss = losses.policy_loss(
                logprobs[one], logprobs[one].detach(), advantages[one], self.mask[one], 0.2, 1
            ).loss
            loss = loss + ETA * kl[one].sum() * place.in_loss
            found.append(torch.autograd.grad(loss, self.logits, retain_graph=True)[0])
        return torch.stack(found)

    def mean(self, gradients: Tensor) -> Tensor:
        return (self.probabilities().detach()[:, None, None] * gradients).sum(0)

    def variance(self, gradients: Tensor) -> float:
        deviations = (gradients - self.mean(gradients)).square().sum((1, 2))
        return float((self.probabilities().detach() * deviations).sum())


@pytest.fixture(scope="module")
def tiny_policy() -> TinyPolicy:
    policy = TinyPolicy()
    assert len(policy.answers) == 1 + 2 * (1 + 2 * 3)
    torch.testing.assert_close(policy.probabilities().sum().item(), 1.0)
    return policy


def test_full_kl_in_both_places_has_the_exact_gradient(tiny_policy: TinyPolicy) -> None:
    """Prevents a KL that is charged to the wrong token, twice, or not at all."""
    gradients = tiny_policy.gradients("full", "both")
    torch.testing.assert_close(tiny_policy.mean(gradients), tiny_policy.exact_gradient())


def test_k1_in_the_reward_has_the_same_mean_and_more_variance(tiny_policy: TinyPolicy) -> None:
    """Prevents a noisier gradient in both places than docs/explanation/algorithm.md says."""
    k1 = tiny_policy.gradients("k1", "reward")
    torch.testing.assert_close(tiny_policy.mean(k1), tiny_policy.exact_gradient())
    both = tiny_policy.gradients("full", "both")
    assert tiny_policy.variance(both) < 0.9 * tiny_policy.variance(k1)


@pytest.mark.parametrize("placement", ["reward", "loss"])
def test_full_kl_in_one_place_lacks_a_part(tiny_policy: TinyPolicy, placement: str) -> None:
    """Prevents the test of both places from passing because any place would do."""
    gradients = tiny_policy.gradients("full", placement)
    assert (tiny_policy.mean(gradients) - tiny_policy.exact_gradient()).abs().max() > 0.05


@given(
    rows=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4),
    gamma=st.sampled_from([1.0, 0.9]),
)
def test_the_kl_to_come_is_what_later_tokens_cost(rows: list[list[bool]], gamma: float) -> None:
    """Prevents a shift over padding or a gap, and a discount that differs from that of k1."""
    mask = torch.tensor(rows)
    kl = 1 + torch.arange(mask.numel(), dtype=torch.float64).view(mask.shape)
    kl = kl.masked_fill(~mask, torch.nan)
    to_come = losses.kl_to_come(kl, mask, gamma)
    assert not to_come[~mask].any()
    of_all = reward_to_go(losses.zero_padding(kl, mask), mask, gamma)
    torch.testing.assert_close(
        reward_to_go(to_come, mask, gamma), of_all - losses.zero_padding(kl, mask)
    )
