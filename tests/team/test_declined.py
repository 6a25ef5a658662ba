"""An answer that every reward function declines is left out, as if it had not been sampled."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from rich.console import Console
from torch import Tensor

from cory.algorithm.advantages import ESTIMATORS
from cory.cli.tables import evaluation_table
from cory.report.answers import browse
from cory.team.controllers import RewardScaler
from cory.team.metrics import for_json
from cory.team.rollout import share_rewards
from cory.team.train_samples import transfer_back_samples
from cory.team.transfer import KnowledgeTransfer
from cory.team.types import RolloutRecord
from cory.training.trainer import CORYTrainer
from tests.teams import disturb
from tests.tiny_runs import queries, records, share_of_letters, trainer

NAN = math.nan
DECLINED = [2, 3, 7]
"""Rows of the 8 that are declined: of groups of 4, two and one."""


def team_of(model: Path, output_dir: Path, **options: Any) -> CORYTrainer:
    """Agents that differ from the reference, with answers whose groups have several rewards."""
    chosen: dict[str, Any] = {"adam_epsilon": 1e-3, "num_mini_batches": 1, **options}
    team = trainer(model, output_dir, batch_size=8, **chosen)
    for index, policy in enumerate(team.policies):
        disturb(policy, seed=index, size=0.05)
    return team


def play(team: CORYTrainer) -> list[RolloutRecord]:
    return team.rollout.run(team.queries(0), 0).records


def declining(record: RolloutRecord, rows: list[int] = DECLINED) -> RolloutRecord:
    """The record as it is where some answers were declined, junk in their place included."""

    def declined(rewards: Tensor) -> Tensor:
        return rewards.index_fill(0, torch.tensor(rows), NAN)

    return replace(
        record,
        task_reward=declined(record.task_reward),
        team_reward=declined(record.team_reward),
        scaled_reward=declined(record.scaled_reward),
    )


def only(record: RolloutRecord, rows: list[int]) -> RolloutRecord:
    """The record of a rollout in which only some answers were sampled."""
    index, generation = torch.tensor(rows), record.generation
    batch = record.batch.select(index)
    width = batch.response_mask.shape[1]
    scores = [None if part is None else part[index][:, :width] for part in record.scores]
    lists = {
        name: [getattr(generation, name)[row] for row in rows]
        for name in ("prompt_ids", "response_ids", "completions")
    }
    return replace(
        record,
        generation=replace(generation, **lists),
        batch=batch,
        scores=type(record.scores)(*scores),
        task_reward=record.task_reward[index],
        team_reward=record.team_reward[index],
        scaled_reward=record.scaled_reward[index],
    )


WAYS: dict[str, dict[str, Any]] = {
    **{name: {"advantage_estimator": name} for name in ESTIMATORS},
    "gae, kl in the loss": {"kl_placement": "loss", "kl_estimator": "full"},
    "gae, kl in both": {"kl_placement": "both", "kl_estimator": "full"},
    "gae, one pass each": {"per_device_train_batch_size": 1},
    "gae, scaled": {"normalize_rewards": True, "score_clip": 1.0},
    "group, whitened": {"advantage_estimator": "group", "whiten_advantages": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_an_update_is_that_of_the_other_answers(
    way: str, tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a declined answer in any baseline, whitening, statistic, loss or divisor.

    The brute force samples the others only; a group baseline learns from each group alone, and so
    compares groups that are whole: its answers are declined in the second group's place.
    """
    options = WAYS[way]
    is_grouped = options.get("advantage_estimator") in ("group", "leave_one_out")
    rows = [4, 5, 6, 7] if is_grouped else DECLINED
    kept = [row for row in range(8) if row not in rows]
    if is_grouped:
        options = {**options, "num_generations": 4}
    results = []
    for name in ("declined", "without"):
        team = team_of(tiny_gpt2_dir, tmp_path / name, num_ppo_epochs=2, **options)
        agent, record = team.agents[0], play(team)[0]
        record = declining(record, rows) if name == "declined" else only(record, kept)
        metrics = agent.update(agent.scale_rewards(record), 0)
        weights = [weight.detach().clone() for weight in agent.policy.trainable_parameters()]
        results.append((weights, metrics, agent.state.reward_scalers))
    (ours, measured, scalers), (theirs, expected, other_scalers) = results
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)
    assert measured == pytest.approx(expected, abs=1e-4)
    assert scalers == other_scalers


@pytest.mark.parametrize("name", ["group", "leave_one_out"])
def test_groups_of_which_some_are_declined(name: str, tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents [5, 7, None, 6] from being learnt from as [5, 7, 0, 6].

    Rewards are the first five of a group of 4 each, and the baseline is worked out by hand.
    """
    team = team_of(
        tiny_gpt2_dir, tmp_path, advantage_estimator=name, num_generations=4, kl_coef=0.0
    )
    rewards = torch.tensor([5.0, 7.0, NAN, 6.0, NAN, NAN, 3.0, NAN])
    record = replace(play(team)[0], task_reward=rewards, team_reward=rewards, scaled_reward=rewards)
    [samples], metrics = team.agents[0].own_samples(record)
    by_hand = {"group": [-1 / 1.0001, 1 / 1.0001, 0, 0], "leave_one_out": [-1.5, 1.5, 0, 0]}[name]
    assert samples.advantages[:, 0].tolist() == pytest.approx(by_hand, abs=1e-5)
    assert len(samples.batch) == 4, "the one that is alone is learnt from, with nothing to learn"
    assert math.isfinite(metrics["advantage_std"])


def test_nothing_paid_is_nothing_learnt(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents nan weights, or a step by weight decay, where a judge declines a whole batch."""
    team = team_of(tiny_gpt2_dir, tmp_path, weight_decay=0.1, normalize_rewards=True)
    agent, record = team.agents[0], declining(play(team)[0], list(range(8)))
    before = [weight.detach().clone() for weight in agent.policy.trainable_parameters()]
    metrics = agent.update(agent.scale_rewards(record), 0, [record])
    assert metrics["optimizer_steps"] == metrics["skipped_steps"] == 0
    assert agent.state.reward_scalers["pioneer"] == RewardScaler()
    torch.testing.assert_close(list(agent.policy.trainable_parameters()), before, atol=0, rtol=0)


@pytest.mark.parametrize("paid", [1, 2, 3])
def test_fewer_paid_answers_than_mini_batches(
    paid: int, tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a mini-batch without answers from dividing by 0, or counting as a step."""
    team = team_of(
        tiny_gpt2_dir, tmp_path, num_mini_batches=4, target_kl=1.0, partner_samples_weight=1.0
    )
    agent, pair = team.agents[1], play(team)
    pair = [declining(pair[0], [0]), declining(pair[1], list(range(paid, 8)))]
    assert agent.update(pair[1], 0)["optimizer_steps"] == 2 * paid
    metrics = agent.update(pair[1], 0, pair)
    assert metrics["optimizer_steps"] == 2 * 4, "the partner's answers are there as well"
    assert math.isfinite(metrics["from_agent_0/policy_loss"])


def test_a_partner_neither_gains_nor_loses() -> None:
    """Prevents the other's declined answer from being paid to oneself as 0.

    Two queries of two answers: the observer's one answer to the first stands for the other, too.
    """
    pioneer = torch.tensor([1.0, 2.0, 3.0, 4.0])
    observer = torch.tensor([10.0, NAN, NAN, NAN])
    matrix = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    by_query = share_rewards([pioneer, observer], matrix, 2)
    torch.testing.assert_close(by_query[0], torch.tensor([6.0, 7.0, 8.0, 9.0]))
    torch.testing.assert_close(by_query[1], torch.tensor([10.5, NAN, NAN, NAN]), equal_nan=True)
    observer = torch.tensor([10.0, NAN, 30.0, 20.0])
    for size, expected in ((2, [6, 7, 18, 14]), (1, [6, 12, 18, 14])):
        shared = share_rewards([pioneer, observer], matrix, size)
        assert shared[0].tolist() == expected
    nobody = share_rewards([pioneer, torch.full((4,), NAN)], matrix, 2)
    torch.testing.assert_close(nobody[0], pioneer)
    assert nobody[1].isnan().all()


def test_transfer_back_compares_what_was_paid(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an answer from beating one that nobody judged, and a diluted share or loss."""
    team = team_of(tiny_gpt2_dir, tmp_path, transfer_back_weight=0.5)
    pioneer, observer = play(team)
    pioneer = replace(pioneer, task_reward=torch.tensor([0.0, 0, NAN, 0, 0, 0, 0, 1]))
    observer = replace(observer, task_reward=torch.tensor([1.0, NAN, 1, 0, 0, 0, 0, 0]))
    [samples], metrics = transfer_back_samples([pioneer, observer], team.args)
    assert metrics["transfer_back/share"] == pytest.approx(1 / 6)
    paid = observer.batch.response_mask.sum(1)[[0, 2, 3, 4, 5, 6, 7]].sum()
    assert samples.weight == pytest.approx(float(0.5 * samples.batch.num_tokens / paid))
    nobody = replace(observer, task_reward=torch.full((8,), NAN))
    assert transfer_back_samples([pioneer, nobody], team.args) == ([], {"transfer_back/share": 0})


def test_a_speaker_who_was_not_judged_says_nothing_of_transfer(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a lift of nan from ending knowledge transfer for good."""
    pioneer, observer = play(team_of(tiny_gpt2_dir, tmp_path))
    transfer = KnowledgeTransfer(is_on=True, min_lift=0.0)
    transfer.follow([pioneer, declining(observer, list(range(8)))])
    transfer.review()
    assert transfer.is_on
    few = replace(observer, task_reward=torch.tensor([9.0, *[NAN] * 7]))
    transfer.follow([pioneer, few])
    assert transfer.lifts == [pytest.approx(9 - float(pioneer.task_reward.mean()))]


def declines_short_topics(
    prompts: list[str], completions: list[str], topic: list[int], **columns: Any
) -> list[float | None]:
    paid = share_of_letters(prompts, completions)
    return [None if length < 12 else reward for length, reward in zip(topic, paid, strict=True)]


def declines_all(completions: list[str], **columns: Any) -> list[None]:
    return [None] * len(completions)


def test_a_run_counts_what_was_declined(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a 0 in metrics, samples, evaluations or on the page where there is no reward."""
    run = trainer(
        tiny_gpt2_dir,
        tmp_path,
        declines_short_topics,
        eval_dataset=queries(5),
        log_samples_steps=1,
        num_generations=2,
        advantage_estimator="group",
    )
    run.train()
    told = capsys.readouterr().err
    assert told.count("cory: warning: no reward function applies to row ") == 1
    first, _, evaluated = records(tmp_path)
    path = tmp_path / "samples" / "step-000001.parquet"
    table = pyarrow.parquet.read_table(path).to_pylist()
    own = [row["task_reward"] for row in table if row["role"] == "pioneer"]
    paid = [reward for reward in own if reward is not None]
    assert 0 < len(paid) < 8
    assert all((row["task_reward"] is None) == (len(row["query"]) < 12) for row in table)
    assert all(row["team_reward"] is None for row in table if row["task_reward"] is None)
    assert first["pioneer/declined_answers"] == first["observer/declined_answers"] == 8 - len(paid)
    assert first["pioneer/task_reward"] == pytest.approx(sum(paid) / len(paid))
    assert evaluated["eval/declined_answers"] == 2
    entries = browse({"run": tmp_path}, 10**6)["entries"]
    assert {entry["lift"] is None for entry in entries} == {True, False}
    assert "NaN" not in json.dumps(entries)


def test_a_run_in_which_nothing_is_paid_goes_on(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a crash in statistics, progress or evaluation of no reward at all."""
    run = trainer(
        tiny_gpt2_dir,
        tmp_path,
        declines_all,
        eval_dataset=queries(4),
        metric_for_best_model="task_reward",
        greater_is_better=False,
        eval_steps=1,
    )
    metrics = run.train()
    told = capsys.readouterr().err
    assert told.count("cory: warning: no reward function applies to row 0 of the batch") == 1
    assert "nan" not in told
    assert "      –" in told
    assert math.isnan(metrics["task_reward"])
    assert run.events.state.best_metric is None
    console = Console(file=io.StringIO(), width=80)
    console.print(evaluation_table("", {"agent_0": metrics}))
    assert "nan" not in console.file.getvalue()
    assert json.dumps(for_json(metrics), allow_nan=False)
    assert records(tmp_path)[1]["agent_0/optimizer_steps"] == 0
    assert records(tmp_path)[1]["agent_0/task_reward"] is None
