"""The same tokens as transformers, the right frequencies, the right end."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from cory.generation.local import LocalSampler, answer_each, sample_tokens
from cory.training.setup import RunComponents
from tests.teams import ADAPTERS, QUERIES, disturb, make_team

SETTINGS = {
    "gpt2": ("tiny_gpt2_dir", {}),
    "llama": ("tiny_llama_dir", {}),
    "llama-adapters": ("tiny_llama_dir", ADAPTERS),
}


@pytest.fixture(scope="module", params=SETTINGS)
def team(request: pytest.FixtureRequest) -> RunComponents:
    fixture, settings = SETTINGS[request.param]
    team = make_team(request.getfixturevalue(fixture), **settings)
    for index, policy in enumerate(team.policies):
        disturb(policy, seed=index)
    return team


def prompts_of(team: RunComponents) -> list[list[int]]:
    return [team.encoder.encode(query, []) for query in QUERIES]


def sample(
    team: RunComponents, agent: int, length: int = 12, temperature: float = 0.0, rows: int = 3
) -> list[list[int]]:
    sampler = LocalSampler(team.encoder.end_ids, rows)
    generator = torch.Generator().manual_seed(0)
    answers = sampler.generate(
        team.policies[agent], prompts_of(team), length, temperature, generator
    )
    return answers.token_ids


def test_greedy_answers_are_those_of_transformers(team: RunComponents) -> None:
    """Prevents wrong positions or masks where ragged prompts are decoded together."""
    policy, expected = team.policies[0], []
    for prompt in prompts_of(team):
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=12,
            pad_token_id=team.tokenizer.pad_token_id,
            eos_token_id=sorted(team.encoder.end_ids),
        )
        with policy.activate():
            output = policy.model.generate(
                input_ids=torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                generation_config=config,
            )
        expected.append(output[0, len(prompt) :].tolist())
    assert sample(team, agent=0) == expected
    assert len({len(answer) for answer in expected}) > 1


def test_answers_do_not_depend_on_the_rows_per_pass(team: RunComponents) -> None:
    """Prevents neighbours in a batch from changing an answer, or its random numbers."""
    for temperature in (0.0, 1.0):
        alone = sample(team, agent=0, length=30, temperature=temperature, rows=1)
        together = sample(team, agent=0, length=30, temperature=temperature, rows=6)
        assert alone == together


def test_answers_to_one_query_share_its_prefill_and_nothing_else(team: RunComponents) -> None:
    """Prevents equal prompts from being read again, and answers to them from being copies."""
    policy, prompts = team.policies[0], prompts_of(team)
    repeated = [prompt for prompt in prompts for _ in range(3)]
    sampler = LocalSampler(frozenset(), 100)
    sizes: list[int] = []
    embedding = policy.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    answers = sampler.generate(policy, repeated, 6, 1.0, torch.Generator().manual_seed(0))
    handle.remove()
    assert sizes == [len(prompts)] + [len(repeated)] * 5
    assert len(set(map(tuple, answers.token_ids))) == len(repeated)
    greedy = sampler.generate(policy, repeated, 6, 0.0, torch.Generator()).token_ids
    once = sampler.generate(policy, prompts, 6, 0.0, torch.Generator()).token_ids
    assert greedy == [answer for answer in once for _ in range(3)]


def test_finished_answers_are_no_longer_decoded(team: RunComponents) -> None:
    """Prevents long answers from being paid for by short ones, and rows from being mixed up.

    Many end tokens let the rows finish one after the other.
    """
    policy, prompts = team.policies[0], prompts_of(team) * 4
    sizes: list[int] = []
    embedding = policy.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    sampler = LocalSampler(frozenset(range(0, 300, 5)), 100)
    answers = sampler.generate(policy, prompts, 40, 1.0, torch.Generator().manual_seed(0))
    handle.remove()
    lengths = [len(answer) for answer in answers.token_ids]
    assert len(set(lengths)) > 3
    needed = sum(length > 1 for length in lengths) + sum(
        sum(length > column for length in lengths) for column in range(2, 40)
    )
    assert sum(sizes[1:]) <= needed * 8 / 7 + 1
    assert answers.hidden is not None
    for row, (prompt, answer) in enumerate(zip(prompts, answers.token_ids, strict=True)):
        with torch.no_grad():
            expected = policy.hidden_states(torch.tensor([prompt + answer]))[0]
        kept = answers.hidden[row, : len(answer)]
        torch.testing.assert_close(
            kept, expected[len(prompt) - 1 : -1], rtol=0, atol=1e-4, msg=f"row {row}"
        )


def test_answers_stop_at_the_first_end_token(team: RunComponents) -> None:
    """Prevents tokens after EOS, and an EOS that is cut off and so never scored."""
    end_ids = team.encoder.end_ids
    answers = sample(team, agent=0, length=30, temperature=1.0)
    assert all(not set(answer[:-1]) & end_ids for answer in answers)
    assert all(answer[-1] in end_ids or len(answer) == 30 for answer in answers)
    assert any(answer[-1] in end_ids for answer in answers)


def test_every_agent_answers_with_its_own_weights(team: RunComponents) -> None:
    """Prevents adapters that are never switched, in either order of speaking."""
    first, second = sample(team, agent=0), sample(team, agent=1)
    assert first != second
    assert sample(team, agent=0) == first


def test_one_token_answers(tiny_gpt2_dir: Path) -> None:
    """Prevents the shortest answer from being one token too long."""
    answers = sample(make_team(tiny_gpt2_dir), agent=0, length=1, temperature=1.0)
    assert [len(answer) for answer in answers] == [1] * len(QUERIES)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_frequencies_are_those_of_the_softmax(temperature: float) -> None:
    """Prevents a biased sampler: chi-square over 40 tokens, which 1 in 1000 seeds would fail.

    The caller divides logits by the temperature; doing it again here would show.
    """
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(40, generator=generator)
    num_samples = 40_000
    uniform = torch.rand(num_samples, generator=generator)
    tokens = sample_tokens(logits.expand(num_samples, -1), temperature, uniform)
    expected = logits.double().softmax(0) * num_samples
    chi_square = ((tokens.bincount(minlength=40) - expected).square() / expected).sum()
    degrees = 39
    # Wilson and Hilferty's approximation of the 99.9% quantile.
    limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3
    assert chi_square < limit


def uniform_numbers(count: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(0))


def test_impossible_tokens_are_never_drawn() -> None:
    """Prevents a token of probability 0, whose log-probability would be −inf."""
    logits = torch.full((5000, 7), -1e9)
    logits[:, [2, 5]] = torch.tensor([0.0, 3.0])
    tokens = sample_tokens(logits, 1.0, uniform_numbers(len(logits)))
    assert set(tokens.tolist()) == {2, 5}
    masked = torch.where(logits < -1, -math.inf, logits)
    tokens = sample_tokens(masked, 1.0, uniform_numbers(len(logits)))
    assert set(tokens.tolist()) == {2, 5}


def test_rounding_does_not_run_off_the_vocabulary() -> None:
    """Prevents index V where the float32 probabilities of a large vocabulary add up below 1."""
    logits = torch.zeros(4000, 5003)
    tokens = sample_tokens(logits, 1.0, uniform_numbers(len(logits)))
    assert int(tokens.max()) < 5003
    assert abs(tokens.double().mean() - 2501) < 5 * 1444 / math.sqrt(4000)


def test_temperature_zero_takes_the_likeliest_token() -> None:
    """Prevents a division by zero."""
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, -1.0, 1.0]])
    assert sample_tokens(logits, 0.0, uniform_numbers(2)).tolist() == [1, 0]


def test_agents_that_answer_at_once_answer_with_their_own_weights(tiny_gpt2_dir: Path) -> None:
    """Prevents a team that answers with its first agent's weights alone."""
    team = make_team(tiny_gpt2_dir)
    for seed, policy in enumerate(team.policies):
        disturb(policy, seed)

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(7) for _ in team.policies]

    prompts = [[5, 6], [7]]
    together = answer_each(team.sampler, team.policies, [prompts] * 2, 6, 1.0, generators())
    alone = [
        team.sampler.generate(policy, prompts, 6, 1.0, generator)
        for policy, generator in zip(team.policies, generators(), strict=True)
    ]
    assert [each.token_ids for each in together] == [each.token_ids for each in alone]
    assert together[0].token_ids != together[1].token_ids
