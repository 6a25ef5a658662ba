"""Who sees what, who is paid what, and that what is scored is what was sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cory.config import CORYConfig
from cory.models.batch import to_rows
from cory.models.policy import Policy
from cory.models.scoring import score
from cory.team.rollout import Rollout, judge, recomputes_logprobs
from cory.team.types import Iteration, RolloutRecord
from cory.training.setup import RunComponents
from tests.teams import ADAPTERS, QUERIES, make_team, plain_logits, rows_of

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
        policy = team.policies[record.generation.agent]
        nn.init.normal_(policy.value_head.weight)
        kept, recomputed = (
            score(policy, team.reference, record.batch, 0.7, hidden=hidden)
            for hidden in (record.generation.hidden, None)
        )
        for name in ("logprobs", "values", "entropy", "full_kl"):
            difference = getattr(kept, name) - getattr(recomputed, name)
            assert difference.abs().max() < 1e-4, name
        assert recomputed.values.any()
        nn.init.zeros_(policy.value_head.weight)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"bf16": True}, False),
        ({"bf16": True, "recompute_logprobs": True}, True),
        ({"dtype": "bfloat16"}, True),
        ({"dtype": "bfloat16", "recompute_logprobs": False}, False),
        ({"recompute_logprobs": True}, True),
    ],
)
def test_scores_are_recomputed_where_sampling_computes_in_another_way(
    settings: dict[str, Any], expected: bool
) -> None:
    """Prevents a scoring pass where none is asked for, and none where one is."""
    assert recomputes_logprobs(CORYConfig(**settings)) is expected


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
    for place, generation in enumerate(generations):
        for row, query in enumerate(QUERIES):
            earlier = [previous.response_ids[row] for previous in generations[:place]]
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
    ("credit", "weight", "expected"),
    [
        ("collective", 1.0, ["0+1+2", "0+1+2", "0+1+2"]),
        ("causal", 1.0, ["0+1+2", "1+2", "2"]),
        ("own", 1.0, ["0", "1", "2"]),
        ("collective", 0.0, ["0", "1", "2"]),
        ("collective", -3.0, ["0-3*1-3*2", "1-3*0-3*2", "2-3*0-3*1"]),
        ("causal", 0.5, ["0+.5*1+.5*2", "1+.5*2", "2"]),
    ],
)
def test_team_rewards_by_hand(
    tiny_gpt2_dir: Path, credit: Any, weight: float, expected: list[str]
) -> None:
    """Prevents credit by agent number instead of place: the roles are exchanged here (step 1)."""
    team = make_team(
        tiny_gpt2_dir,
        num_agents=3,
        role_exchange_period=1,
        credit=credit,
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
        "1+2": own[1] + own[2],
        "0-3*1-3*2": own[0] - 3 * own[1] - 3 * own[2],
        "1-3*0-3*2": own[1] - 3 * own[0] - 3 * own[2],
        "2-3*0-3*1": own[2] - 3 * own[0] - 3 * own[1],
        "0+.5*1+.5*2": own[0] + own[1] / 2 + own[2] / 2,
        "1+.5*2": own[1] + own[2] / 2,
    }
    for record, name in zip(iteration.records, expected, strict=True):
        torch.testing.assert_close(record.team_reward, sums[name])


@pytest.mark.parametrize("credit", ["collective", "causal", "own"])
def test_several_observer_answers_by_hand(tiny_gpt2_dir: Path, credit: Any) -> None:
    """Prevents answers behind another row's reference, and a pioneer paid m times or for one."""
    team = make_team(
        tiny_gpt2_dir,
        reward_funcs=spy_reward,
        num_agents=3,
        observer_generations=2,
        partner_reward_weight=0.5,
        credit=credit,
    )
    SEEN.clear()
    iteration = team.rollout.run(rows_of(team), step=0)
    assert [row["prompt"] for row in iteration.rows] == list(QUERIES)
    pioneer, *observers = (record.generation for record in iteration.records)
    twice = [query for query in QUERIES for _ in range(2)]
    assert [len(seen["completions"]) for seen in SEEN] == [6, 12, 12]
    assert [seen["prompts"] for seen in SEEN] == [list(QUERIES), twice, twice]
    for place, generation in enumerate(observers):
        for row, query in enumerate(twice):
            earlier = [observer.response_ids[row] for observer in observers[:place]]
            answers = [pioneer.response_ids[row // 2], *earlier]
            assert generation.prompt_ids[row] == team.encoder.encode(query, answers)
        assert generation.response_ids[0::2] != generation.response_ids[1::2]
    first, second, third = (record.task_reward for record in iteration.records)
    means = (second[0::2] + second[1::2]) / 2, (third[0::2] + third[1::2]) / 2
    seen_first = torch.stack([first, first], dim=1).flatten()
    expected = {
        "collective": (
            first + means[0] / 2 + means[1] / 2,
            second + seen_first / 2 + third / 2,
            third + seen_first / 2 + second / 2,
        ),
        "causal": (first + means[0] / 2 + means[1] / 2, second + third / 2, third),
        "own": (first, second, third),
    }
    for record, paid in zip(iteration.records, expected[credit], strict=True):
        torch.testing.assert_close(record.team_reward, paid)
        assert len(record.batch) == len(paid)


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


def test_judge_reads_the_named_prompt_column() -> None:
    """Prevents a data set whose queries are in another column from being judged on nothing."""
    args = CORYConfig(prompt_column="question")
    SEEN.clear()
    judge([spy_reward], [{"question": "2+2?", "gold": 4}], ["four"], [[7]], args)
    assert SEEN == [
        {"prompts": ["2+2?"], "completions": ["four"], "completion_ids": [[7]], "gold": [4]}
    ]
