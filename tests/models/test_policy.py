"""Log-probabilities, values, entropy and KL against dense float64 references."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    GraniteConfig,
    OPTConfig,
    PreTrainedConfig,
)

from cory.models.batch import make_batch
from cory.models.loading import checkpoint_gradients
from cory.models.policy import LanguageModel, Policy, differentiable_full_kl
from cory.models.scoring import TokenScorer
from cory.models.weights import FullCopy
from cory.training.setup import RunComponents
from tests.teams import ADAPTERS, disturb, make_team, plain_logits
from tests.tiny_models import TINY, tiny_model

PROMPTS = [[50, 51, 52, 53, 54, 55, 56], [60], [70, 71, 72]]
RESPONSES = [[80, 81], [90, 91, 92, 93, 94], [100]]
TEMPERATURE = 0.7
SETTINGS = {
    "gpt2": ("tiny_gpt2_dir", {}),
    "llama": ("tiny_llama_dir", {}),
    "llama-adapters": ("tiny_llama_dir", ADAPTERS),
}


@pytest.fixture(scope="module", params=SETTINGS)
def team(request: pytest.FixtureRequest) -> RunComponents:
    """A team whose first agent is far from the initial model."""
    fixture, settings = SETTINGS[request.param]
    team = make_team(request.getfixturevalue(fixture), **settings)
    disturb(team.policies[0], seed=0)
    return team


def dense_logprobs(model: LanguageModel, row: int) -> Tensor:
    """Log-probabilities (T, V) of a whole response in float64, from transformers alone."""
    logits = plain_logits(model, PROMPTS[row], RESPONSES[row]).double() / TEMPERATURE
    return logits.log_softmax(-1)


def dense_kl(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    return (logprobs.exp() * (logprobs - ref_logprobs)).sum(-1)


def test_scores_equal_a_dense_reference(team: RunComponents) -> None:
    """Prevents a shift by one token, a temperature that is left out, and KL(π_0 ‖ π)."""
    policy, reference = team.policies[0], team.reference
    scores = TokenScorer(reference, TEMPERATURE).score(policy, make_batch(PROMPTS, RESPONSES))
    for row, response in enumerate(RESPONSES):
        logprobs, ref_logprobs = dense_logprobs(policy, row), dense_logprobs(reference, row)
        tokens = torch.tensor(response)[:, None]
        expected = {
            "logprobs": logprobs.gather(1, tokens)[:, 0],
            "ref_logprobs": ref_logprobs.gather(1, tokens)[:, 0],
            "entropy": -(logprobs.exp() * logprobs).sum(-1),
            "full_kl": dense_kl(logprobs, ref_logprobs),
        }
        for name, values in expected.items():
            scored = getattr(scores, name)[row]
            torch.testing.assert_close(scored[: len(response)].double(), values, rtol=0, atol=2e-5)
            assert not scored[len(response) :].any()
        assert float(expected["full_kl"].min()) > 0.01


def test_scores_do_not_depend_on_pieces(
    team: RunComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents results that change with memory settings: one token and one row at a time."""
    batch = make_batch(PROMPTS, RESPONSES)
    policy, scorer = team.policies[0], TokenScorer(team.reference, TEMPERATURE, None, True)
    whole = scorer.score(policy, batch)
    monkeypatch.setattr("cory.models.policy.LOGITS_PER_PIECE", 1)
    pieces = replace(scorer, max_rows=1).score(policy, batch)
    for name, values in whole._asdict().items():
        torch.testing.assert_close(getattr(pieces, name), values, rtol=0, atol=1e-5, msg=name)


def test_values_are_read_where_the_token_is_decided(team: RunComponents) -> None:
    """Prevents a value that has seen the token it is a baseline for, which would bias PPO."""
    policy = team.policies[0]
    batch = make_batch(PROMPTS, RESPONSES)
    scores = TokenScorer(team.reference, TEMPERATURE).score(policy, batch)
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        with torch.no_grad(), policy.activate():
            output = policy.model(
                input_ids=torch.tensor([prompt + response]), output_hidden_states=True
            )
            values = policy.value_head(output.hidden_states[-1][0])[len(prompt) - 1 : -1, 0]
        torch.testing.assert_close(scores.values[row, : len(response)], values)
        assert values.abs().min() > 0


def test_reference_hidden_states_come_back_by_token(team: RunComponents) -> None:
    """Prevents a KL in the loss that pairs a token with the reference of another."""
    batch = make_batch(PROMPTS, RESPONSES)
    scorer = TokenScorer(team.reference, TEMPERATURE, max_rows=2, keep_ref_hidden=True)
    scores = scorer.score(team.policies[0], batch)
    assert scores.ref_hidden is not None
    logprobs = team.reference.logprobs(
        scores.ref_hidden[batch.response_mask], batch.response_tokens, TEMPERATURE
    )
    torch.testing.assert_close(logprobs, scores.ref_logprobs[batch.response_mask])


def test_differentiable_kl_has_the_dense_gradient(
    team: RunComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a gradient that is lost, or taken twice, where logits are computed again."""
    monkeypatch.setattr("cory.models.policy.LOGITS_PER_PIECE", 3 * team.reference.vocab_size)
    policy, reference = team.policies[0], team.reference
    batch = make_batch(PROMPTS, RESPONSES)
    weights = torch.arange(1.0, 9.0)
    with torch.no_grad():
        ref_hidden = reference.response_hidden(batch)
        ref_logprobs = reference.logits(ref_hidden, TEMPERATURE).log_softmax(-1)
    hidden = policy.response_hidden(batch)
    expected = dense_kl(policy.logits(hidden, TEMPERATURE).log_softmax(-1), ref_logprobs)
    expected_gradients = gradients_of(policy, (weights * expected).sum())
    hidden = policy.response_hidden(batch)
    kl = differentiable_full_kl(policy, hidden, reference, ref_hidden, TEMPERATURE)
    torch.testing.assert_close(kl, expected, rtol=0, atol=1e-5)
    for gradient, expected_gradient in zip(
        gradients_of(policy, (weights * kl).sum()), expected_gradients, strict=True
    ):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-4)
    assert any(gradient.abs().max() > 0.1 for gradient in expected_gradients)


def gradients_of(policy: Policy, loss: Tensor) -> list[Tensor]:
    weights = policy.language_parameters()
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return [
        torch.zeros_like(weight) if gradient is None else gradient
        for weight, gradient in zip(weights, gradients, strict=True)
    ]


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        OPTConfig(**TINY, ffn_dim=64, word_embed_proj_dim=32, dropout=0.5),
        FalconConfig(**TINY, hidden_dropout=0.5, attention_dropout=0.5),
    ],
    ids=lambda config: config.model_type,
)
def test_dropout_never_acts(config: PreTrainedConfig, is_checkpointed: bool) -> None:
    """Prevents first ratios of 2: these layers drop out by themselves in training mode."""
    model = tiny_model(config)
    reference = LanguageModel(copy.deepcopy(model).requires_grad_(False))
    policy = Policy(FullCopy(model))
    if is_checkpointed:
        checkpoint_gradients(model)
    batch = make_batch(PROMPTS, RESPONSES)
    scores = TokenScorer(reference, TEMPERATURE).score(policy, batch)
    hidden = policy.response_hidden(batch)
    tokens = batch.response_tokens
    logprobs = policy.logprobs(hidden, tokens, TEMPERATURE)
    torch.testing.assert_close(logprobs, scores.logprobs[batch.response_mask])
    assert scores.full_kl.abs().max() < 1e-6


def test_bfloat16_scores_are_those_of_the_update(tiny_llama_dir: Path) -> None:
    """Prevents sampling, scoring and learning in different precisions, and statistics in bf16."""
    team = make_team(tiny_llama_dir, bf16=True)
    policy, batch = team.policies[0], make_batch(PROMPTS, RESPONSES)
    scores = TokenScorer(team.reference, TEMPERATURE).score(policy, batch)
    hidden = policy.response_hidden(batch)
    logprobs = policy.logprobs(hidden, batch.response_tokens, TEMPERATURE)
    torch.testing.assert_close(logprobs, scores.logprobs[batch.response_mask])
    assert {values.dtype for values in scores if values is not None} == {torch.float32}
    plain = dense_logprobs(policy, 1).gather(1, torch.tensor(RESPONSES[1])[:, None])[:, 0]
    difference = (scores.logprobs[1] - plain).abs().max()
    assert 0 < difference < 0.2


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**TINY, head_dim=8, final_logit_softcapping=1.5),
        GraniteConfig(**TINY, logits_scaling=4.0),
        CohereConfig(**TINY, logit_scale=0.25),
        OPTConfig(**TINY, ffn_dim=64, word_embed_proj_dim=32),
    ],
    ids=lambda config: config.model_type,
)
def test_known_heads_are_accepted(config: PreTrainedConfig) -> None:
    """Prevents capped or scaled logits from being scored as if they were not."""
    model = LanguageModel(tiny_model(config))
    expected = plain_logits(model, PROMPTS[0], RESPONSES[0]).log_softmax(-1)
    with torch.no_grad():
        hidden = model.response_hidden(make_batch(PROMPTS, RESPONSES))[:2]
        logits = model.logits(hidden, temperature=1.0)
    torch.testing.assert_close(logits.log_softmax(-1), expected, rtol=0, atol=1e-5)


def test_the_value_head_starts_at_zero_and_is_trained(team: RunComponents) -> None:
    """Prevents a random baseline at the start, and a value head that the optimizer never sees."""
    second = team.policies[1]
    assert not second.value_head.weight.any()
    assert not second.value_head.bias.any()
    trained = {id(parameter) for parameter in second.trainable_parameters()}
    assert {id(second.value_head.weight), id(second.value_head.bias)} < trained
