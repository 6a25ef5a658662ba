"""What is learnt from partners, and how much of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cory.algorithm import policy_losses
from cory.algorithm.advantages import LARGEST_IMPORTANCE, truncated_importance
from cory.config import CORYConfig
from cory.team.controllers import RewardScaler
from cory.team.train_samples import TrainSamples, transfer_back_samples
from cory.team.types import RolloutRecord
from cory.training.trainer import CORYTrainer
from tests.teams import disturb, plain_logits
from tests.tiny_runs import same_bits, snapshot, trainer

HAND_OVER = {"transfer_back_weight": 0.3, "partner_samples_weight": 0.7}


def team_of(model: Path, output_dir: Path, **options: Any) -> CORYTrainer:
    """Agents that differ, and no whitening, so that losses can be worked out by hand."""
    chosen = {"whiten_advantages": False, "adam_epsilon": 1e-3, **options}
    team = trainer(model, output_dir, **chosen)
    for index, policy in enumerate(team.policies):
        disturb(policy, seed=index, size=0.05)
    return team


def play(team: CORYTrainer, step: int = 0) -> list[RolloutRecord]:
    """What the team answers, scaled as an iteration does before the updates."""
    found = team.rollout.run(team.queries(step), step).records
    return [team.agents[record.generation.agent].scale_rewards(record) for record in found]


def gradient(team: CORYTrainer, agent: int, samples: TrainSamples) -> list[Tensor]:
    """Of all samples, by one optimizer step that moves nothing."""
    policy = team.policies[agent]
    for group in team.optimizer.param_groups:
        group["lr"] = 0.0
    team.agents[agent]._optimizer_step([samples], [torch.arange(len(samples.batch))])
    return [
        torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        for weight in policy.language_parameters()
    ]


def assert_close(left: list[Tensor], right: list[Tensor]) -> None:
    for ours, theirs in zip(left, right, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_the_likelihood_loss_by_hand() -> None:
    """Prevents a sign error, a gradient through padding, and a ratio in the gradient."""
    logprobs = torch.tensor([[-1.0, -2.0], [-4.0, torch.nan]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    advantages = torch.tensor([[1.0, 0.0], [3.0, torch.nan]])
    result = policy_losses.likelihood_loss(
        logprobs, 2 * logprobs.detach(), advantages, mask, 0.2, 10
    )
    assert result.loss.item() == pytest.approx((1 + 3 * 4) / 10)
    result.loss.backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([[-0.1, 0.0], [-0.3, 0.0]]))


@pytest.mark.parametrize("num_agents", [2, 3])
def test_better_answers_move_to_the_plain_query(
    tiny_gpt2_dir: Path, tmp_path: Path, num_agents: int
) -> None:
    """Prevents answers behind the wrong query, and worse or equal answers."""
    team = team_of(tiny_gpt2_dir, tmp_path, num_agents=num_agents, transfer_back_weight=0.5)
    pioneer, *later = play(team)
    [samples], metrics = transfer_back_samples([pioneer, *later], team.args)
    expected = [
        (pioneer.generation.prompt_ids[row], answer)
        for record in later
        for row, answer in enumerate(record.generation.response_ids)
        if record.task_reward[row] > pioneer.task_reward[row]
    ]
    num_answers = 8 * len(later)
    assert 0 < len(expected) < num_answers
    assert metrics == {"transfer_back/share": pytest.approx(len(expected) / num_answers)}
    batch = samples.batch
    for row, (prompt, answer) in enumerate(expected):
        assert batch.input_ids[row, : batch.lengths[row]].tolist() == prompt + answer
        assert batch.prompt_lengths[row] == len(prompt)
    assert torch.equal(samples.advantages, batch.response_mask.float())


@pytest.mark.parametrize("agent", [0, 1])
def test_transfer_back_raises_the_likelihood_of_better_answers(
    tiny_gpt2_dir: Path, tmp_path: Path, agent: int
) -> None:
    """Prevents another weight, divisor or prompt than docs/explanation/algorithm.md says.

    The loss is written out with transformers alone, one answer at a time, without padding.
    """
    team = team_of(tiny_gpt2_dir, tmp_path, transfer_back_weight=0.5, max_grad_norm=0.0)
    pioneer, observer = play(team)
    [samples], _ = transfer_back_samples([pioneer, observer], team.args)
    ours = gradient(team, agent, samples)
    policy, total = team.policies[agent], torch.zeros(())
    for row in (observer.task_reward > pioneer.task_reward).nonzero().flatten().tolist():
        prompt, answer = pioneer.generation.prompt_ids[row], observer.generation.response_ids[row]
        ids = torch.tensor([[*prompt, *answer]])
        logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
        total = total - logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None]).sum()
    loss = 0.5 * total / observer.batch.num_tokens
    assert_close(ours, list(torch.autograd.grad(loss, policy.language_parameters())))


def test_nothing_better_is_nothing_to_learn(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an empty batch from failing, and equal answers from being taken for better ones."""

    def equal(completions: list[str], **columns: Any) -> list[float]:
        return [1.0] * len(completions)

    team = trainer(tiny_gpt2_dir, tmp_path / "team", equal, transfer_back_weight=1.0)
    plain = trainer(tiny_gpt2_dir, tmp_path / "plain", equal)
    metrics = team.iterate(0)
    plain.iterate(0)
    assert metrics["agent_0/transfer_back/share"] == 0
    assert "agent_0/transfer_back/policy_loss" not in metrics
    assert all(map(same_bits, map(snapshot, team.agents), map(snapshot, plain.agents)))


def test_fewer_better_answers_than_mini_batches(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a mini-batch without any from failing, or from counting as a loss of 0."""

    def once(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        calls.append(completions)
        return [float(len(calls) == 2 and not row) for row in range(len(completions))]

    calls: list[list[str]] = []
    options: dict[str, Any] = {"transfer_back_weight": 1.0, "num_mini_batches": 4}
    team = trainer(tiny_gpt2_dir, tmp_path, once, num_ppo_epochs=1, **options)
    metrics = team.iterate(0)
    assert metrics["agent_1/transfer_back/share"] == 1 / 8
    assert metrics["agent_1/transfer_back/policy_loss"] > 1, "nats of an untrained model"


def test_importance_weights_give_the_expectation_of_ones_own_policy() -> None:
    """Prevents a ratio upside down: for one token, weights below the cut are exact."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(1, 9, generator=generator, dtype=torch.float64).log_softmax(1)
    partner = (own + 0.2 * torch.randn(1, 9, generator=generator)).log_softmax(1)
    importance = truncated_importance(own, partner)
    assert importance.max() < LARGEST_IMPORTANCE
    value = torch.randn(1, 9, generator=generator, dtype=torch.float64)
    expected = (own.exp() * value).sum()
    torch.testing.assert_close((partner.exp() * importance * value).sum(), expected)
    far = truncated_importance(torch.zeros(1, 1), torch.full((1, 1), -5.0))
    assert far.item() == LARGEST_IMPORTANCE


def test_a_partner_with_the_same_weights_teaches_what_oneself_would_learn(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents partner samples that differ from one's own by more than who sampled them."""
    team = trainer(tiny_gpt2_dir, tmp_path, partner_samples_weight=1.0, normalize_rewards=True)
    for policy in team.policies:
        disturb(policy, seed=0, size=0.05)
    records = play(team)
    [samples], metrics = team.agents[1].partner_samples(records)
    own, _ = team.agents[0].make_train_samples(records[0])
    assert metrics == {"from_agent_0/importance": pytest.approx(1.0, abs=1e-5)}
    for name in ("old_logprobs", "old_values", "advantages", "returns", "ref_logprobs"):
        torch.testing.assert_close(getattr(samples, name), getattr(own, name), atol=1e-4, rtol=1e-4)
    assert_close(gradient(team, 1, samples), gradient(team, 0, own))
    assert team.agents[0].partner_samples(records) == ([], {}), (
        "an observer's answers are not plain"
    )


def test_a_partner_with_other_weights_is_scored_anew(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the partner's values, KL or probabilities from being taken for one's own."""
    team = team_of(tiny_gpt2_dir, tmp_path, partner_samples_weight=0.25, num_generations=2)
    records = play(team)
    [samples], metrics = team.agents[1].partner_samples(records)
    pioneer = records[0]
    mask = pioneer.batch.response_mask
    for row, (prompt, answer) in enumerate(
        zip(pioneer.generation.prompt_ids, pioneer.generation.response_ids, strict=True)
    ):
        logits = plain_logits(team.policies[1], prompt, answer)
        expected = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(
            samples.old_logprobs[row, : len(answer)], expected, atol=1e-4, rtol=1e-4
        )
    weights = (samples.old_logprobs - pioneer.scores.logprobs).exp().clamp(max=2)[mask]
    assert metrics["from_agent_0/importance"] == pytest.approx(float(weights.mean()))
    assert weights.std() > 0.05
    assert samples.weight == 0.25
    assert samples.old_values is not None
    assert not torch.allclose(samples.old_values, pioneer.scores.values)


def test_a_partners_answers_are_scaled_as_the_partner_scales_them(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents rewards of another distribution in one's own statistics, and scaling by them."""
    team = team_of(
        tiny_gpt2_dir,
        tmp_path,
        partner_samples_weight=1.0,
        normalize_rewards=True,
        advantage_estimator="reinforce",
        kl_coef=0.0,
        gamma=1.0,
    )
    student = team.agents[1].state
    student.reward_scalers["pioneer"] = RewardScaler(1000.0, 50.0, 1e6)
    records = play(team)
    before = deepcopy(student)
    [samples], _ = team.agents[1].partner_samples(records)
    assert student == before
    mask = records[0].batch.response_mask
    paid = records[0].team_reward
    expected = ((paid - paid.mean()) / paid.std(correction=0))[:, None] * mask
    assert samples.returns is not None
    torch.testing.assert_close(samples.returns, expected)
    assert not torch.allclose(paid, records[0].scaled_reward)


def test_without_knowledge_transfer_everybody_gives_plain_answers(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents plain answers that are left out because of the role they were given in."""
    team = team_of(
        tiny_gpt2_dir, tmp_path, num_agents=3, partner_samples_weight=1.0, knowledge_transfer=False
    )
    records = play(team)
    names = [
        [samples.name for samples in agent.partner_samples(records)[0]] for agent in team.agents
    ]
    assert names == [
        ["from_agent_1/", "from_agent_2/"],
        ["from_agent_0/", "from_agent_2/"],
        ["from_agent_0/", "from_agent_1/"],
    ]


@pytest.mark.parametrize(
    "options", [{}, {"use_peft": True}, {"kl_placement": "both", "kl_estimator": "full"}]
)
def test_micro_batches_change_nothing(
    tiny_gpt2_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents a partner's answers from being weighted by how it is split."""
    results = []
    for size in (None, 3):
        team = team_of(
            tiny_gpt2_dir,
            tmp_path / str(size),
            per_device_train_batch_size=size,
            **{**HAND_OVER, **options},
        )
        metrics = team.iterate(0)
        results.append((snapshot(team.agents[1]), metrics))
    for name, tensor in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], tensor, atol=1e-6, rtol=1e-4)
    for key in results[0][1]:
        if "from_agent" in key or "transfer_back" in key:
            assert results[1][1][key] == pytest.approx(results[0][1][key], abs=1e-5)


def test_samples_of_partners_are_off_by_default(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the paper's method from learning what it does not learn from."""
    assert CORYConfig().transfer_back_weight == CORYConfig().partner_samples_weight == 0
    results = []
    for name, hands_over in (("trainer", True), ("alone", False)):
        team = trainer(tiny_gpt2_dir, tmp_path / name)
        records = play(team)
        for record in records:
            shown = records if hands_over else ()
            team.agents[record.generation.agent].update(record, 0, shown)
        results.append([snapshot(agent) for agent in team.agents])
    assert all(map(same_bits, *results))


def test_transfer_back_by_hand(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents one better answer from counting as much as a batch of them."""
    team = team_of(tiny_gpt2_dir, tmp_path, transfer_back_weight=0.3)
    pioneer, observer = play(team)
    paid = torch.zeros(len(observer.batch))
    better = replace(observer, task_reward=paid + (torch.arange(len(paid)) == 2).float())
    (samples,), metrics = transfer_back_samples(
        [replace(pioneer, task_reward=paid), better], team.args
    )
    assert metrics == {"transfer_back/share": pytest.approx(1 / len(paid))}
    tokens = len(observer.generation.response_ids[2])
    assert samples.weight == pytest.approx(0.3 * tokens / observer.batch.num_tokens)
    assert samples.batch.input_ids[0].tolist() == [
        *pioneer.generation.prompt_ids[2],
        *observer.generation.response_ids[2],
    ]


def test_without_a_weight_nothing_is_transferred_back(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a pass for samples that count for nothing."""
    team = team_of(tiny_gpt2_dir, tmp_path)
    assert transfer_back_samples(play(team), team.args) == ([], {})


def test_a_partners_advantages_are_weighted(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a partner's answers from being learnt as if this agent had given them."""
    team = team_of(tiny_gpt2_dir, tmp_path, partner_samples_weight=1.0)
    pioneer, _ = play(team)
    agent = team.agents[1]
    (samples,), _ = agent.partner_samples([pioneer])
    scores = team.components.scorer.score(agent.policy, pioneer.batch)
    made, _ = agent.make_train_samples(replace(pioneer, scores=scores))
    importance = truncated_importance(scores.logprobs, pioneer.scores.logprobs)
    assert torch.equal(samples.advantages, made.advantages * importance)
    assert not torch.equal(samples.advantages, made.advantages)
