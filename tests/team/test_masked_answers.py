"""Answers that were cut off at the limit are left out, as if they had not been sampled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cory.team.train_samples import transfer_back_samples
from cory.team.types import RolloutRecord
from cory.training.trainer import CORYTrainer
from tests.team.test_agent import ADAM_EPSILON, records, weights
from tests.tiny_runs import records as logged
from tests.tiny_runs import same_bits, snapshot, trainer

MASKS = {"mask_truncated_completions": True, "stop_strings": list("aeiou ")}
"""An untrained model rarely emits EOS; with these, some answers end and some do not."""
CUT_OFF = [True, False, False, False, False, True, False, True, False]
"""One of each query with three answers."""


def chosen(record: RolloutRecord, rows: torch.Tensor) -> RolloutRecord:
    """A record of some answers only."""
    batch = record.batch.select(rows)
    length = batch.response_mask.shape[1]
    parts = (None if part is None else part[rows, :length] for part in record.scores)
    rewards = {
        name: getattr(record, name)[rows]
        for name in ("task_reward", "team_reward", "scaled_reward")
    }
    return replace(
        record, batch=batch, scores=type(record.scores)(*parts), is_masked=None, **rewards
    )


@pytest.mark.parametrize(
    "options",
    [
        {"advantage_estimator": "gae", "normalize_rewards": True},
        {"advantage_estimator": "gae", "kl_placement": "loss", "kl_estimator": "full"},
        {"advantage_estimator": "batch_mean"},
        {"advantage_estimator": "reinforce"},
        {"advantage_estimator": "group", "whiten_advantages": True},
        {"advantage_estimator": "leave_one_out"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_an_update_is_one_without_them(
    options: dict[str, Any], tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents an answer that was cut off from entering a loss, a baseline or a statistic.

    The brute force is the update of a team that was never given those answers: groups of two.
    """
    cut_off, results = torch.tensor(CUT_OFF), []
    for name in ("masked", "not there"):
        team = trainer(
            *(tiny_gpt2_dir, tmp_path / name),
            batch_size=9,
            num_generations=3,
            adam_epsilon=ADAM_EPSILON,
            **options,
        )
        record = replace(records(team)[0], is_masked=cut_off)
        agent = team.agents[0]
        if name == "not there":
            record = chosen(record, (~cut_off).nonzero().flatten())
            agent.args = team.args.replace(batch_size=6, num_generations=2)
        metrics = agent.update(agent.scale_rewards(record), 0)
        statistics = [vars(scaler) for scaler in agent.state.reward_scalers.values()]
        results.append((weights(agent), metrics, statistics))
    (left, metrics, statistics), (right, expected, expected_statistics) = results
    torch.testing.assert_close(left, right, atol=1e-6, rtol=0)
    assert metrics == pytest.approx(expected, abs=1e-5)
    assert statistics == expected_statistics


def test_what_is_masked_is_what_was_cut_off(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents answers that came to an end from being masked, at a stop string too."""
    team = trainer(tiny_gpt2_dir, tmp_path, **MASKS, batch_size=32, log_samples_steps=1)
    team.train()
    for step in range(2):
        for record in team.rollout.run(team.queries(step), step).records:
            ended = [
                ids[-1] in team.components.encoder.end_ids
                or any(stop in text for stop in MASKS["stop_strings"])
                for ids, text in zip(
                    record.generation.response_ids, record.generation.completions, strict=True
                )
            ]
            assert record.is_masked is not None
            assert record.is_masked.tolist() == [not has_ended for has_ended in ended]
            assert record.generation.has_ended == ended
            assert 0 < sum(ended) < 32
    for line in (line for line in logged(tmp_path) if "agent_0/kl_coef" in line):
        for agent in ("agent_0", "agent_1"):
            assert line[f"{agent}/masked_answers"] == 32 * (1 - line[f"{agent}/ended_share"])
            assert 0 < line[f"{agent}/masked_answers"] < 32
            assert line[f"{agent}/optimizer_steps"] > 0


@pytest.mark.parametrize("options", [{}, {"partner_samples_weight": 1.0}, {"use_peft": True}])
def test_an_iteration_without_an_end_teaches_nothing(
    options: dict[str, Any], tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a division by zero tokens, or a step, where all answers were cut off."""

    def team() -> CORYTrainer:
        return trainer(
            *(tiny_gpt2_dir, tmp_path),
            mask_truncated_completions=True,
            max_completion_length=1,
            transfer_back_weight=1.0,
            knowledge_transfer=not options,
            normalize_rewards=True,
            resume=True,
            **options,
        )

    run = team()
    before = [snapshot(agent) for agent in run.agents]
    run.train()
    assert all(map(same_bits, before, map(snapshot, run.agents)))
    for line in (line for line in logged(tmp_path) if "agent_0/kl_coef" in line):
        assert line["agent_0/masked_answers"] == 8
        assert line["agent_0/optimizer_steps"] == line["agent_0/skipped_steps"] == 0


def test_transfer_back_learns_from_no_masked_answer(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents likelihood training on answers that were cut off."""
    team = trainer(tiny_gpt2_dir, tmp_path, transfer_back_weight=1.0)
    pioneer, observer = records(team)
    better = replace(
        observer,
        task_reward=pioneer.task_reward + 1,
        is_masked=torch.tensor([True, False] * 4),
        generation=replace(observer.generation, num_references=1),
    )
    [samples], metrics = transfer_back_samples([pioneer, better], team.args)
    assert len(samples.batch) == 4
    assert metrics == {"transfer_back/share": 1.0}
    assert samples.weight == pytest.approx(1.0)


@pytest.mark.parametrize("options", [{}, {"use_peft": True, "bf16": True}])
def test_resume_is_exact(options: dict[str, Any], tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents a resumed run from forgetting what ends or masks its answers."""
    settings = {**MASKS, **options, "normalize_rewards": True, "batch_size": 16}
    whole = trainer(tiny_llama_dir, tmp_path / "whole", max_steps=4, **settings)
    whole.train()
    trainer(tiny_llama_dir, tmp_path / "parts", max_steps=2, **settings).train()
    parts = trainer(tiny_llama_dir, tmp_path / "parts", max_steps=4, resume=True, **settings)
    parts.train()
    for left, right in zip(whole.agents, parts.agents, strict=True):
        assert same_bits(snapshot(left), snapshot(right))
