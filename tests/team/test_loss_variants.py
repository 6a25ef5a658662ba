"""Variants of the loss, and filtered sampling, through an agent's whole update."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cory.algorithm import losses
from cory.algorithm.advantages import LARGEST_IMPORTANCE
from cory.algorithm.filtering import TokenFilter, restricted, unpacked
from cory.models.live import live_entropy
from cory.team.agent import Agent
from cory.team.train_samples import TrainSamples, transfer_back_samples
from cory.team.update import clip_range, microbatch_loss
from cory.training.trainer import CORYTrainer
from tests.team.test_agent import ADAM_EPSILON, records, updated, weights
from tests.teams import disturb, make_args, plain_logits
from tests.tiny_runs import same_bits, snapshot, trainer

GROUPS = {"advantage_estimator": "group", "num_generations": 4}
FILTER = {"top_p": 0.9, "top_k": 20, "min_p": 0.02}
VARIANTS: list[dict[str, Any]] = [
    {
        "loss_type": "grpo",
        "kl_placement": "loss",
        "kl_estimator": "k3",
        "use_bias_correction_kl": True,
        "cliprange_high": 0.3,
    },
    {"loss_type": "dapo", "num_mini_batches": 2, "entropy_coef": 0.1},
    {"loss_type": "dr_grpo", "scale_rewards": "none", **GROUPS},
    {"loss_type": "grpo", "importance_sampling_level": "sequence", **GROUPS},
    {"importance_sampling_level": "sequence_product", "scale_rewards": "batch", **GROUPS},
    {"kl_placement": "both", "kl_estimator": "full", "entropy_coef": 0.1, **FILTER},
]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options))
def test_micro_batches_change_nothing(
    options: dict[str, Any], tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a divisor, an entropy or a kept set of a piece in place of the mini-batch's."""
    results = []
    for size in (None, 1):
        team = trainer(
            tiny_gpt2_dir,
            tmp_path / str(size),
            per_device_train_batch_size=size,
            adam_epsilon=ADAM_EPSILON,
            **options,
        )
        results.append((weights(team.agents[0]), updated(team), weights(team.agents[0])))
    (_, metrics, whole), (before, expected, pieces) = results
    torch.testing.assert_close(whole, pieces, atol=1e-6, rtol=0)
    assert metrics == pytest.approx(expected, abs=1e-5)
    assert (whole - before).abs().max() > 1e-4
    assert metrics["first_ratio_error"] < 1e-5


def learnt(team: CORYTrainer) -> tuple[Agent, TrainSamples]:
    """The first agent, and its samples as one mini-batch."""
    agent = team.agents[0]
    samples, _ = agent.make_train_samples(agent.scale_rewards(records(team)[0]))
    return agent, samples.mini_batch(torch.arange(len(samples.batch)), team.args)


def loss_of(agent: Agent, samples: TrainSamples) -> tuple[float, dict[str, Tensor], Tensor]:
    """Loss, statistics, and the gradient of the language model's weights."""
    loss, statistics = microbatch_loss(
        samples,
        samples.batch.num_tokens,
        agent.policy,
        agent.reference,
        agent.penalty,
        agent.args,
    )
    parameters = agent.policy.language_parameters()
    gradients = torch.autograd.grad(loss, parameters)
    return float(loss.detach()), statistics, torch.cat([one.flatten() for one in gradients])


def test_every_term_has_the_weights_of_the_loss_type(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a KL that is still divided by tokens, or an entropy that is not."""
    options = {**GROUPS, "kl_placement": "loss", "kl_estimator": "k3", "entropy_coef": 0.3}
    team = trainer(
        tiny_gpt2_dir, tmp_path, loss_type="grpo", stop_strings=list("aeiou "), **options
    )
    # At the start the KL is 0, which every weighting gives.
    disturb(team.policies[0], seed=2)
    agent, samples = learnt(team)
    mask = samples.batch.response_mask
    lengths = mask.sum(1)
    assert lengths.min() < lengths.max()
    with torch.no_grad():
        hidden = agent.policy.response_hidden(samples.batch)
        logits = agent.policy.logits(hidden, team.args.temperature)
        kl, entropy = torch.zeros(mask.shape), torch.zeros(mask.shape)
        entropy[mask] = losses.entropy(logits)
    assert samples.ref_logprobs is not None
    kl = losses.k3(samples.old_logprobs, samples.ref_logprobs)

    def mean_of_means(values: Tensor) -> float:
        return float((values.masked_fill(~mask, 0).sum(1) / lengths).mean())

    _, statistics, _ = loss_of(agent, samples)
    assert float(statistics["policy_loss"]) == pytest.approx(
        mean_of_means(-samples.advantages), abs=1e-5
    )
    assert float(statistics["kl_loss"]) == pytest.approx(mean_of_means(kl), abs=1e-5)
    assert abs(mean_of_means(kl) - float(losses.masked_mean(kl, mask))) > 1e-4
    # As in TRL, the bonus is the mean over tokens for every loss type.
    mean_entropy = float(losses.masked_mean(entropy, mask))
    assert float(statistics["entropy_loss"]) == pytest.approx(-mean_entropy, rel=1e-5)
    assert abs(mean_of_means(entropy) - mean_entropy) > 1e-4


def test_the_kl_correction_has_a_gradient(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a ratio that is a constant: at ratio 1 the loss is the same, its gradient is not."""
    options = {"kl_placement": "loss", "kl_estimator": "k3", "kl_coef": 1.0}
    team = trainer(tiny_gpt2_dir, tmp_path, use_bias_correction_kl=True, **options)
    agent = team.agents[0]
    disturb(agent.policy, seed=2)
    _, samples = learnt(team)
    loss, _, gradient = loss_of(agent, samples)
    plain_loss, _, plain = loss_of(agent, replace(samples, kl_log_ratio=None))
    assert loss == pytest.approx(plain_loss, abs=1e-5)
    # By hand: the gradient of ρ · KL is that of KL, plus KL times that of log π.
    mask, policy = samples.batch.response_mask, agent.policy
    hidden = policy.response_hidden(samples.batch)
    logprobs = policy.logprobs(hidden, samples.batch.response_tokens, 1.0)
    assert samples.ref_logprobs is not None
    kl = losses.k3(samples.old_logprobs, samples.ref_logprobs)[mask]
    wanted = torch.autograd.grad((kl * logprobs).mean(), policy.language_parameters())
    flat = torch.cat([one.flatten() for one in wanted])
    torch.testing.assert_close(gradient - plain, flat, atol=1e-5, rtol=1e-3)
    assert flat.abs().max() > 1e-3


@pytest.mark.parametrize("filters", [{}, FILTER], ids=["whole", "filtered"])
def test_the_entropy_bonus_is_the_entropy_and_its_gradient(
    filters: dict[str, Any], tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a bonus of the wrong sign, of one distribution for another, or a constant."""
    team = trainer(tiny_gpt2_dir, tmp_path, entropy_coef=0.5, temperature=0.8, **filters)
    agent, samples = learnt(team)
    loss, statistics, gradient = loss_of(agent, samples)
    without, _, plain = loss_of(agent, replace(samples, entropy_weight=0.0))
    policy = agent.policy
    logits = policy.logits(policy.response_hidden(samples.batch), 0.8)
    if filters:
        assert samples.kept is not None
        kept = unpacked(samples.kept[samples.batch.response_mask], policy.vocab_size)
        probs = torch.where(kept, logits.softmax(-1), 0.0)
        probs = probs / probs.sum(-1, keepdim=True)
    else:
        probs = logits.softmax(-1)
    bonus = -torch.special.xlogy(probs, probs.clamp(min=1e-30)).sum(-1).mean()
    assert loss == pytest.approx(without - 0.5 * float(bonus.detach()), abs=1e-5)
    assert float(statistics["entropy_loss"]) == pytest.approx(-float(bonus.detach()), abs=1e-5)
    wanted = torch.autograd.grad(bonus, policy.language_parameters())
    wanted = torch.cat([one.flatten() for one in wanted])
    torch.testing.assert_close(gradient - plain, -0.5 * wanted, atol=2e-5, rtol=1e-3)


def test_tokens_count_the_same_in_every_mini_batch(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents `dapo` from being `bnpo`, which counts a token of a short mini-batch more."""
    results = {}
    for loss_type in ("bnpo", "dapo"):
        team = trainer(
            *(tiny_gpt2_dir, tmp_path / loss_type),
            loss_type=loss_type,
            stop_strings=list("aeiou "),
            num_mini_batches=2,
        )
        agent = team.agents[0]
        samples, _ = agent.make_train_samples(agent.scale_rewards(records(team)[0]))
        rows = samples.batch.lengths.argsort()[:4]
        part = samples.mini_batch(rows, team.args)
        results[loss_type] = (loss_of(agent, part)[2], part.batch.num_tokens)
        total = samples.batch.num_tokens
    (bnpo, size), (dapo, _) = results["bnpo"], results["dapo"]
    assert size < total / 2
    shared = torch.cosine_similarity(bnpo, dapo, dim=0)
    assert shared > 0
    # Without the value function, which keeps the tokens' mean, one is a multiple of the other.
    assert part.loss_weights is not None
    torch.testing.assert_close(part.loss_weights, torch.full((4, 1), 2 * size / total))


def test_one_mini_batch_makes_two_types_one(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a `dapo` that scales where there is nothing to scale: bit for bit."""
    states = []
    for loss_type in ("bnpo", "dapo"):
        team = trainer(tiny_gpt2_dir, tmp_path / loss_type, loss_type=loss_type)
        updated(team)
        states.append(snapshot(team.agents[0]))
    assert same_bits(*states)


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_what_is_scored_is_what_was_sampled(
    options: dict[str, Any], tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a token from outside the filter, and scores of the whole distribution.

    By transformers alone, one answer after the other.
    """
    team = trainer(tiny_gpt2_dir, tmp_path, temperature=0.9, **options, **FILTER)
    token_filter = TokenFilter(**FILTER)
    for record in records(team):
        policy = team.policies[record.generation.agent]
        scores = record.scores
        assert scores.kept is not None
        generation = record.generation
        for row, response in enumerate(generation.response_ids):
            logits = plain_logits(policy, generation.prompt_ids[row], response) / 0.9
            ref_logits = plain_logits(
                team.components.reference, generation.prompt_ids[row], response
            )
            kept = token_filter.kept(logits)
            tokens = torch.tensor(response)[:, None]
            assert kept.gather(1, tokens).all()
            assert kept.sum(1).max() <= 20
            size = len(response)
            assert unpacked(scores.kept[row, :size], policy.vocab_size).equal(kept)
            logprobs = restricted(logits, kept).log_softmax(-1)
            ref_logprobs = restricted(ref_logits / 0.9, kept).log_softmax(-1)
            for found, whole in (
                (scores.logprobs, logprobs.gather(1, tokens)[:, 0]),
                (scores.ref_logprobs, ref_logprobs.gather(1, tokens)[:, 0]),
                (scores.entropy, losses.entropy_of(logprobs)),
                (scores.full_kl, losses.full_kl_of(logprobs, ref_logprobs)),
            ):
                torch.testing.assert_close(found[row, :size], whole, atol=1e-4, rtol=1e-4)
    hidden = torch.zeros(3, policy.value_head.in_features)
    assert live_entropy(policy, hidden, 1.0).shape == (3,)


def test_a_partners_answer_keeps_the_set_it_was_drawn_from(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a token of a partner that this agent would not keep from weighing nothing, or inf.

    Partners' samples are importance-weighted: both probabilities are of one set.
    """
    team = trainer(
        tiny_gpt2_dir, tmp_path, partner_samples_weight=1.0, knowledge_transfer=False, **FILTER
    )
    disturb(team.policies[0], seed=1)
    spoken = records(team)
    samples, metrics = team.agents[0].partner_samples(spoken)
    assert len(samples) == 1
    kept = spoken[1].scores.kept
    assert kept is not None
    assert samples[0].kept is not None
    assert samples[0].kept.equal(kept)
    own = team.agents[0].scorer.token_filter
    mask, policy = spoken[1].batch.response_mask, team.policies[0]
    with torch.no_grad():
        logits = policy.logits(policy.response_hidden(spoken[1].batch), team.args.temperature)
    sets = unpacked(kept[mask], policy.vocab_size)
    assert not own.kept(logits).equal(sets)
    logprobs = restricted(logits, sets).log_softmax(-1)
    expected = logprobs.gather(1, spoken[1].batch.response_tokens[:, None])[:, 0]
    torch.testing.assert_close(samples[0].old_logprobs[mask], expected, atol=1e-5, rtol=1e-5)
    importance = (expected - spoken[1].scores.logprobs[mask]).exp().clamp(max=LARGEST_IMPORTANCE)
    assert metrics["from_agent_1/importance"] == pytest.approx(float(importance.mean()), abs=1e-4)


def test_transfer_back_keeps_its_own_sum(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a supervised loss that another setting divides by something else.

    Its answers are text to learn, without a ratio: their tokens were drawn for another prompt.
    """
    variant = {"loss_type": "dr_grpo", "entropy_coef": 0.1, **FILTER}
    team = trainer(tiny_gpt2_dir, tmp_path, transfer_back_weight=0.5, **variant)
    (samples,), _ = transfer_back_samples(records(team), team.args)
    part = samples.mini_batch(torch.arange(len(samples.batch)), team.args)
    assert (part.kept, part.loss_weights, part.entropy_weight) == (None, None, 0.0)


def test_the_clip_ranges_of_the_settings() -> None:
    """Prevents a cliprange_high that is ignored, or that holds below 1."""
    assert clip_range(make_args(cliprange=0.1)) == 0.1
    assert clip_range(make_args(cliprange=0.1, cliprange_high=0.3)) == (0.1, 0.3)
