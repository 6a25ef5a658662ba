"""Agents in one batch answer as each does alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from torch.testing import assert_close

from cory.generation import cuda_graph as fixed_decoding
from cory.generation.local import Answers, LocalSampler
from cory.generation.mixed_adapters import can_be_mixed
from cory.models.policy import LanguageModel
from cory.team.rollout import Rollout
from cory.training.setup import RunComponents, UserObjects, build_components
from tests.teams import ADAPTERS, QUERIES, disturb, length_reward, make_args, make_team, rows_of

END_IDS = frozenset(range(0, 300, 5))
LENGTH = 30


@pytest.fixture(scope="module", params=["tiny_gpt2_dir", "tiny_llama_dir"])
def team(request: pytest.FixtureRequest) -> RunComponents:
    directory = request.getfixturevalue(request.param)
    team = make_team(directory, num_agents=3, knowledge_transfer=False, **ADAPTERS)
    for index, policy in enumerate(team.policies):
        disturb(policy, seed=index)
    return team


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (5, 6, 5)]


def prompts_of(team: RunComponents) -> list[list[list[int]]]:
    """Different numbers of them for each agent, some alike, ragged."""
    prompts = [team.encoder.encode(query, []) for query in QUERIES]
    return [prompts, prompts[:2] * 2, [*prompts[3:], prompts[0]]]


def alone(team: RunComponents, sampler: LocalSampler, temperature: float) -> list[Answers]:
    return [
        sampler.generate(policy, prompts, LENGTH, temperature, generator)
        for policy, prompts, generator in zip(
            team.policies, prompts_of(team), generators(), strict=True
        )
    ]


@pytest.mark.parametrize("rows_per_pass", [100, 5])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_those_of_each_alone(
    team: RunComponents, temperature: float, rows_per_pass: int
) -> None:
    """Prevents a row with another agent's adapter: at the start, or once others have finished.

    Agents share queries, so equal prompts must not share a prefill; passes cut across agents.
    """
    assert can_be_mixed(team.policies)
    sampler = LocalSampler(END_IDS, rows_per_pass)
    expected = alone(team, sampler, temperature)
    mixed = sampler.generate_each(
        team.policies, prompts_of(team), LENGTH, temperature, generators()
    )
    assert len({len(answer) for answer in expected[0].token_ids}) > 2
    assert expected[0].token_ids[:2] != expected[1].token_ids[:2]
    for ours, theirs in zip(mixed, expected, strict=True):
        assert ours.token_ids == theirs.token_ids
        assert ours.hidden is not None
        assert theirs.hidden is not None
        assert ours.hidden.shape == theirs.hidden.shape
        for row, answer in enumerate(ours.token_ids):
            columns = slice(len(answer))
            assert_close(ours.hidden[row, columns], theirs.hidden[row, columns], rtol=0, atol=1e-4)


def test_the_base_is_read_once_for_all(team: RunComponents) -> None:
    """Prevents batches that are mixed in name, one agent after the other in fact."""
    sizes: list[int] = []
    embedding = team.reference.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    sampler = LocalSampler(frozenset(), 100)
    sampler.generate_each(team.policies, prompts_of(team), 4, 1.0, generators())
    handle.remove()
    rows = sum(map(len, prompts_of(team)))
    assert sizes == [rows - 2, rows, rows, rows]


def test_nothing_stays_mixed(team: RunComponents) -> None:
    """Prevents the next pass of an agent from asking for rows of the last batch."""
    sampler = LocalSampler(END_IDS, 100)
    before = alone(team, sampler, 0.0)
    sampler.generate_each(team.policies, prompts_of(team), LENGTH, 1.0, generators())
    for ours, theirs in zip(alone(team, sampler, 0.0), before, strict=True):
        assert ours.token_ids == theirs.token_ids
    with torch.enable_grad():
        hidden = team.policies[1].hidden_states(torch.tensor([[5, 6, 7]]))
    assert hidden.requires_grad


class OneByOne:
    """A sampler that is not ours."""

    def __init__(self, sampler: LocalSampler) -> None:
        self.sampler = sampler

    def generate(
        self,
        policy: LanguageModel,
        prompt_ids: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
    ) -> Answers:
        return self.sampler.generate(policy, prompt_ids, max_new_tokens, temperature, generator)


def rollout_with(team: RunComponents, sampler: object) -> Rollout:
    rollout = team.rollout
    rollout.sampler = sampler
    return rollout


def test_a_team_without_transfer_speaks_at_once(
    team: RunComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents other answers, speakers or seeds than those of one after the other."""
    assert isinstance(team.sampler, LocalSampler)
    expected = rollout_with(team, OneByOne(team.sampler)).run(rows_of(team), 7)
    monkeypatch.setattr(LocalSampler, "generate", None)
    iteration = team.rollout.run(rows_of(team), 7)
    for ours, theirs in zip(iteration.records, expected.records, strict=True):
        assert ours.generation.response_ids == theirs.generation.response_ids
        assert (ours.generation.agent, ours.generation.role_index) == (
            theirs.generation.agent,
            theirs.generation.role_index,
        )
        assert_close(ours.scores.logprobs, theirs.scores.logprobs, rtol=0, atol=1e-4)


def test_evaluations_are_those_of_each_alone(team: RunComponents) -> None:
    """Prevents an agent from being credited with another one's answers."""
    evaluator, rows = team.evaluator, rows_of(team)
    policies = dict(zip("abc", team.policies, strict=True))
    together = evaluator.evaluate_each(policies, rows)
    for name, policy in policies.items():
        single = evaluator.evaluate(policy, rows, team.args.num_eval_samples)
        assert together[name].completions == single.completions
        assert together[name].metrics == pytest.approx(single.metrics, abs=1e-4)


def test_whole_copies_and_singles_are_not_mixed(tiny_gpt2_dir: Path, team: RunComponents) -> None:
    """Prevents agents without a common base from being decoded on the first one's."""
    assert not can_be_mixed(make_team(tiny_gpt2_dir).policies)
    assert not can_be_mixed(team.policies[:1])


def test_more_than_adapters_is_not_mixed(tiny_llama_dir: Path) -> None:
    """Prevents trained modules that are no adapters from being taken from the active agent."""
    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    user = UserObjects(
        reward_funcs=length_reward,
        train_dataset=make_team(tiny_llama_dir).train_dataset,
        peft_config=config,
    )
    policies = build_components(make_args(tiny_llama_dir), user).policies
    assert not can_be_mixed(policies)


def test_graphs_are_not_mixed(team: RunComponents, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents lists of rows on the host from being frozen into a graph."""
    monkeypatch.setattr(fixed_decoding, "FIXED_SHAPES_ON", {"cpu"})
    assert not can_be_mixed(team.policies)
