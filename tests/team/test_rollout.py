"""Who sees what, who is paid what, and that what is scored is what was sampled."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cory.algorithm.seeding import derive_generator
from cory.models.batch import to_rows
from cory.models.policy import Policy
from cory.team.rollout import Rollout, keeps_hidden
from cory.team.types import Iteration, RolloutRecord
from cory.training.setup import RunComponents
from tests.teams import ADAPTERS, QUERIES, make_args, make_team, plain_logits, rows_of

SETTINGS = {
    "gpt2-full": ("tiny_gpt2_dir", {}),
    "gpt2-adapters": ("tiny_gpt2_dir", ADAPTERS),
    "llama-full": ("tiny_llama_dir", {}),
    "llama-adapters": ("tiny_llama_dir", ADAPTERS),
}
SEEN: list[dict[str, Any]] = []


def spy_reward(prompts: list[Any], completions: list[str], **columns: Any) -> list[float]:
    """Pays the number of characters, and keeps what it was asked to judge."""
    SEEN.append({"prompts": prompts, "completions": completions, **columns})
    return [float(len(completion)) for completion in completions]


@pytest.fixture(scope="module", params=SETTINGS)
def chain(request: pytest.FixtureRequest) -> tuple[RunComponents, Iteration]:
    """Three agents and their first rollout; scored in passes of four, at another temperature."""
    fixture, settings = SETTINGS[request.param]
    directory = request.getfixturevalue(fixture)
    team = make_team(
        directory, num_agents=3, temperature=0.7, per_device_eval_batch_size=4, **settings
    )
    return team, team.rollout.run(rows_of(team), step=0)


def update_logprobs(policy: Policy, record: RolloutRecord, temperature: float) -> Tensor:
    """Log-probabilities (B, T) as an update computes them, in micro-batches of two."""
    whole = torch.zeros(record.batch.response_mask.shape)
    for rows in record.batch.split(2, 10_000):
        batch = record.batch.select(rows)
        hidden = policy.response_hidden(batch)
        logprobs = policy.logprobs(hidden, batch.response_tokens, temperature)
        mask = batch.response_mask
        whole[rows, : mask.shape[1]] = to_rows(logprobs, mask)
    return whole


def test_the_rollout_is_as_hard_as_it_should_be(chain: tuple[RunComponents, Iteration]) -> None:
    """Prevents the next tests from passing because nothing is ragged or nothing is padded."""
    team, iteration = chain
    assert team.tokenizer.pad_token_id == team.tokenizer.eos_token_id
    assert [record.generation.role for record in iteration.records] == [
        "pioneer",
        "observer",
        "observer_2",
    ]
    for record in iteration.records:
        assert len(set(record.batch.prompt_lengths.tolist())) > 1
        assert not record.batch.response_mask.all()


def test_first_ratio_is_one_for_every_role(chain: tuple[RunComponents, Iteration]) -> None:
    """Prevents scoring that depends on padding, on the split, or on dropout in the update."""
    team, iteration = chain
    for record in iteration.records:
        policy = team.policies[record.generation.agent]
        logprobs = update_logprobs(policy, record, team.args.temperature)
        assert logprobs.requires_grad
        assert ((logprobs - record.scores.logprobs).exp() - 1).abs().max() < 1e-4


def test_what_sampling_computed_is_what_a_pass_of_its_own_computes(
    chain: tuple[RunComponents, Iteration],
) -> None:
    """Prevents hidden states of another column, row or temperature from being taken for a token's.

    `recompute_logprobs` chooses between the two.
    """
    team, iteration = chain
    for record in iteration.records:
        generation, args = record.generation, team.args
        policy = team.policies[generation.agent]
        answers = team.sampler.generate(
            policy,
            generation.prompt_ids,
            args.max_completion_length,
            args.temperature,
            derive_generator(args.seed, "sampling", 0, generation.agent),
        )
        assert answers.token_ids == generation.response_ids
        nn.init.normal_(policy.value_head.weight)
        kept, recomputed = (
            team.scorer.score(policy, record.batch, hidden) for hidden in (answers.hidden, None)
        )
        assert torch.equal(record.scores.logprobs, kept.logprobs), "the rollout keeps what it has"
        for name in ("logprobs", "values", "entropy", "full_kl"):
            difference = getattr(kept, name) - getattr(recomputed, name)
            assert difference.abs().max() < 1e-4, name
        assert recomputed.values.any()
        nn.init.zeros_(policy.value_head.weight)


def test_scores_are_those_of_transformers_without_padding(
    chain: tuple[RunComponents, Iteration],
) -> None:
    """Prevents wrong positions, masks or shifts, which a ratio of two own passes would hide."""
    team, iteration = chain
    for record in iteration.records:
        policy, generation = team.policies[record.generation.agent], record.generation
        for row, (prompt, response) in enumerate(
            zip(generation.prompt_ids, generation.response_ids, strict=True)
        ):
            logits = plain_logits(policy, prompt, response) / team.args.temperature
            expected = logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]
            scored = record.scores.logprobs[row, : len(response)]
            assert ((scored - expected).exp() - 1).abs().max() < 1e-4
            assert not record.scores.logprobs[row, len(response) :].any()


def test_the_initial_kl_is_zero(chain: tuple[RunComponents, Iteration]) -> None:
    """Prevents a reference that is not the initial model, or that sees another prompt (Eq 8)."""
    for record in chain[1].records:
        scores = record.scores
        assert scores.full_kl.sum(1).abs().max() < 1e-6
        assert (scores.logprobs - scores.ref_logprobs).abs().max() < 1e-5
        assert not scores.values.any()


def test_an_observer_sees_the_earlier_answers_of_its_own_row(
    chain: tuple[RunComponents, Iteration],
) -> None:
    """Prevents answers that are re-tokenised, mixed up between rows, or shown with their EOS."""
    team, iteration = chain
    generations = [record.generation for record in iteration.records]
    for role_index, generation in enumerate(generations):
        for row, query in enumerate(QUERIES):
            earlier = [previous.response_ids[row] for previous in generations[:role_index]]
            assert generation.prompt_ids[row] == team.encoder.encode(query, earlier)
    shown = [token for token in generations[0].response_ids[1] if token not in team.encoder.end_ids]
    assert str(shown)[1:-1] in str(generations[1].prompt_ids[1])


def test_completions_are_what_was_sampled(chain: tuple[RunComponents, Iteration]) -> None:
    """Prevents special tokens in the judged text, and answers longer than asked for."""
    team, iteration = chain
    for record in iteration.records:
        generation = record.generation
        for ids, completion in zip(generation.response_ids, generation.completions, strict=True):
            assert completion == team.tokenizer.decode(ids, skip_special_tokens=True)
            assert 1 <= len(ids) <= team.args.max_completion_length
            assert not set(ids[:-1]) & team.encoder.end_ids


def test_without_knowledge_transfer_everybody_gets_the_plain_query(tiny_gpt2_dir: Path) -> None:
    """Prevents the control arm from leaking the observer's template or the pioneer's answer."""
    team = make_team(tiny_gpt2_dir, knowledge_transfer=False)
    pioneer, observer = team.rollout.run(rows_of(team), step=0).records
    assert pioneer.generation.prompt_ids == observer.generation.prompt_ids
    assert pioneer.generation.response_ids != observer.generation.response_ids


def test_every_answer_is_judged_on_the_plain_query(tiny_gpt2_dir: Path) -> None:
    """Prevents an observer's reward from counting the reference that its prompt shows."""
    SEEN.clear()
    team = make_team(tiny_gpt2_dir, reward_funcs=spy_reward)
    iteration = team.rollout.run(rows_of(team), step=0)
    assert [row["prompt"] for row in iteration.rows] == list(QUERIES)
    assert [seen["prompts"] for seen in SEEN] == [list(QUERIES)] * 2
    assert [seen["number"] for seen in SEEN] == [list(range(len(QUERIES)))] * 2
    for seen, record in zip(SEEN, iteration.records, strict=True):
        assert seen["completions"] == record.generation.completions
        assert seen["completion_ids"] == record.generation.response_ids
        mean = pytest.approx(record.task_reward.mean().item())
        assert record.reward_parts == {"spy_reward": mean}


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (1.0, ["0+1+2", "0+1+2", "0+1+2"]),
        (0.0, ["0", "1", "2"]),
        (-3.0, ["0-3*1-3*2", "1-3*0-3*2", "2-3*0-3*1"]),
        (0.5, ["0+.5*1+.5*2", "1+.5*0+.5*2", "2+.5*0+.5*1"]),
    ],
)
def test_team_rewards_by_hand(tiny_gpt2_dir: Path, weight: float, expected: list[str]) -> None:
    """Prevents pay by agent number instead of role: the roles are exchanged here (step 1)."""
    team = make_team(
        tiny_gpt2_dir,
        num_agents=3,
        role_exchange_period=1,
        partner_reward_weight=weight,
        max_completion_length=3,
    )
    iteration = team.rollout.run(rows_of(team), step=1)
    assert [record.generation.agent for record in iteration.records] == [1, 2, 0]
    own = [record.task_reward for record in iteration.records]
    sums = {
        "0": own[0],
        "1": own[1],
        "2": own[2],
        "0+1+2": own[0] + own[1] + own[2],
        "0-3*1-3*2": own[0] - 3 * own[1] - 3 * own[2],
        "1-3*0-3*2": own[1] - 3 * own[0] - 3 * own[2],
        "2-3*0-3*1": own[2] - 3 * own[0] - 3 * own[1],
        "0+.5*1+.5*2": own[0] + own[1] / 2 + own[2] / 2,
        "1+.5*0+.5*2": own[1] + own[0] / 2 + own[2] / 2,
        "2+.5*0+.5*1": own[2] + own[0] / 2 + own[1] / 2,
    }
    for record, name in zip(iteration.records, expected, strict=True):
        torch.testing.assert_close(record.team_reward, sums[name])


def test_generations_of_a_query_are_neighbours(tiny_gpt2_dir: Path) -> None:
    """Prevents groups that mix queries, which would compare answers to different questions."""
    team = make_team(tiny_gpt2_dir, num_generations=2, batch_size=2 * len(QUERIES))
    iteration = team.rollout.run(rows_of(team), step=0)
    assert [row["prompt"] for row in iteration.rows] == [
        query for query in QUERIES for _ in range(2)
    ]
    pioneer, observer = (record.generation for record in iteration.records)
    assert pioneer.prompt_ids[0::2] == pioneer.prompt_ids[1::2]
    assert pioneer.response_ids[0::2] != pioneer.response_ids[1::2]
    for row, query in enumerate([row["prompt"] for row in iteration.rows]):
        assert observer.prompt_ids[row] == team.encoder.encode(query, [pioneer.response_ids[row]])


def test_response_length_varies_within_its_bounds(tiny_gpt2_dir: Path) -> None:
    """Prevents the paper's IMDB lengths from being off by one, or one length for ever."""
    team = make_team(tiny_gpt2_dir, min_completion_length=3, max_completion_length=6)
    rollout = team.rollout
    lengths = [rollout.response_length(step) for step in range(200)]
    assert set(lengths) == {3, 4, 5, 6}
    assert min(lengths.count(length) for length in range(3, 7)) > 25
    assert lengths == [rollout.response_length(step) for step in range(200)]
    fixed = make_team(tiny_gpt2_dir, max_completion_length=6).rollout
    assert {fixed.response_length(step) for step in range(9)} == {6}


def test_a_rollout_is_a_function_of_seed_and_step(tiny_gpt2_dir: Path) -> None:
    """Prevents sampling from hidden random state, which a resume would not restore."""
    team = make_team(tiny_gpt2_dir)

    def answers(rollout: Rollout, step: int) -> list[list[list[int]]]:
        iteration = rollout.run(rows_of(team), step)
        return [record.generation.response_ids for record in iteration.records]

    first = answers(team.rollout, 3)
    torch.rand(17)
    assert answers(team.rollout, 3) == first
    assert answers(team.rollout, 4) != first


def test_reference_hidden_states_are_kept_for_a_full_kl_loss_only(tiny_gpt2_dir: Path) -> None:
    """Prevents (B, T, D) of memory where no loss reads it, and a missing one where it does."""
    for settings, is_kept in (
        ({"kl_estimator": "full", "kl_placement": "loss"}, True),
        ({"kl_estimator": "full", "kl_placement": "both"}, True),
        ({"kl_estimator": "k1", "kl_placement": "loss"}, False),
        ({"kl_estimator": "full", "kl_placement": "reward"}, False),
    ):
        team = make_team(tiny_gpt2_dir, max_completion_length=2, **settings)
        for record in team.rollout.run(rows_of(team)[:2], step=0).records:
            assert (record.scores.ref_hidden is not None) == is_kept


def test_what_is_learnt_is_the_team_reward(tiny_gpt2_dir: Path) -> None:
    """Prevents records that are learnt from by an agent's own reward alone."""
    team = make_team(tiny_gpt2_dir)
    for record in team.rollout.run(rows_of(team), step=0).records:
        assert torch.equal(record.scaled_reward, record.team_reward)
        assert not torch.equal(record.team_reward, record.task_reward)


class Misleading:
    """A sampler whose hidden states are not those of its answers."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def generate(self, *asked: Any) -> Any:
        answers = self.sampler.generate(*asked)
        return answers._replace(hidden=torch.zeros_like(answers.hidden))


def test_hidden_states_of_sampling_are_not_trusted_where_scores_are_recomputed(
    tiny_gpt2_dir: Path,
) -> None:
    """Prevents old log-probabilities of an engine that computes in another way."""
    team = make_team(tiny_gpt2_dir, recompute_logprobs=True)
    parts = (team.encoder, Misleading(team.sampler), team.scorer, team.rewards, team.args)
    for record in Rollout(team.policies, *parts).run(rows_of(team), step=0).records:
        expected = team.scorer.score(team.policies[record.generation.agent], record.batch)
        assert torch.equal(record.scores.logprobs, expected.logprobs)


@pytest.mark.parametrize(
    ("recompute", "expected"), [(None, [True, False]), (True, [False] * 2), (False, [True] * 2)]
)
def test_whose_logprobs_are_kept(
    tiny_gpt2_dir: Path, recompute: bool | None, expected: list[bool]
) -> None:
    """Prevents a first ratio that is not 1, and a setting that the probe overrules."""
    (policy, *_), args = make_team(tiny_gpt2_dir).policies, make_args(recompute_logprobs=recompute)
    kept = []
    for policy.samples_as_scored in (True, False):
        kept.append(keeps_hidden(policy, args))
    assert kept == expected


class Remembering:
    """A sampler that notes which hidden states of earlier calls are still held."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.kept: list[weakref.ref] = []
        self.held: list[int] = []

    def generate(self, *asked: Any) -> Any:
        gc.collect()
        self.held.append(sum(hidden() is not None for hidden in self.kept))
        answers = self.sampler.generate(*asked)
        self.kept.append(weakref.ref(answers.hidden))
        return answers


def test_hidden_states_are_freed_once_they_are_scored(tiny_gpt2_dir: Path) -> None:
    """Prevents the pioneer's hidden states from being held while observers answer."""
    team = make_team(tiny_gpt2_dir, num_agents=3)
    sampler = Remembering(team.sampler)
    parts = (team.encoder, sampler, team.scorer, team.rewards, team.args)
    Rollout(team.policies, *parts).run(rows_of(team), step=0)
    assert sampler.held == [0, 0, 0]
