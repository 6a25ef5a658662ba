"""`cory.averaging`: means of weights, over time and over agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cory.agent import Agent
from cory.averaging import WeightAverage, replaced
from cory.trainer import CORYTrainer
from tests.tiny_runs import queries, same_bits, snapshot, trainer


def one_weight(value: float = 0.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def language_weights(agent: Agent) -> list[Tensor]:
    return [weight.detach().clone() for weight in agent.policy.language_parameters()]


def train(team: CORYTrainer, num_steps: int) -> list[list[list[Tensor]]]:
    """The language-model weights of each agent after each iteration."""
    history = []
    for step in range(num_steps):
        team.iterate(step)
        history.append([language_weights(agent) for agent in team.agents])
    return history


def test_the_average_over_time_by_hand() -> None:
    """Prevents an average that the initial weights hold back, or whose decay is off by one."""
    weight = one_weight(100.0)
    kept = WeightAverage([weight], decay=0.75)
    averages = []
    for value in (1.0, 3.0, 8.0, 0.0, 4.0):
        weight.data.fill_(value)
        kept.follow()
        averages.append(kept.average[0].item())
    # Means of 1, 2, 3 and 4 weights; from 1 / (1 − 0.75) = 4 on, a quarter of the way.
    assert averages == pytest.approx([1.0, 2.0, 4.0, 3.0, 3.25])


def test_a_decay_of_one_is_the_mean_of_all_iterations() -> None:
    """Prevents an average that stops to follow."""
    weight = one_weight()
    kept = WeightAverage([weight], decay=1.0)
    for value in range(10):
        weight.data.fill_(value)
        kept.follow()
    assert kept.average[0].item() == pytest.approx(4.5)


def test_the_average_is_kept_in_float32() -> None:
    """Prevents an average in bfloat16, which small steps do not move at all."""
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.bfloat16))
    kept = WeightAverage([weight], decay=0.999)
    kept.count = 1000
    weight.data.fill_(2.0)
    kept.follow()
    assert kept.average[0].item() == pytest.approx(1.001)


def test_replaced_weights_come_back_after_an_error() -> None:
    """Prevents an interrupted evaluation from leaving an agent with weights it did not learn."""
    weight = one_weight(1 / 3)

    def interrupted() -> None:
        with replaced([weight], [torch.tensor([2.0])]):
            assert weight.item() == 2.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(weight, torch.tensor([1 / 3]))
    assert weight.requires_grad


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_an_average_is_the_result_and_training_goes_on_without_it(
    tiny_gpt2_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents an average that steers training, and results of the weights it should replace."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path / "averaged",
        eval_dataset=queries(4),
        weight_average_decay=0.5,
        **options,
    )
    plain = trainer(tiny_gpt2_dir, tmp_path / "plain", eval_dataset=queries(4), **options)
    history = train(team, 3)
    expected = train(plain, 3)
    for agent, other in zip(team.agents, plain.agents, strict=True):
        assert all(map(torch.equal, language_weights(agent), language_weights(other)))
    for index, agent in enumerate(team.agents):
        with agent.as_result():
            result = language_weights(agent)
        for number, average in enumerate(result):
            first, second, third = (expected[step][index][number] for step in range(3))
            torch.testing.assert_close(average, ((first + second) / 2 + third) / 2)
        assert all(map(torch.equal, language_weights(agent), history[-1][index]))
    assert team.evaluate() != plain.evaluate()
    with team.agents[0].as_result(), team.agents[1].as_result():
        averaged = [language_weights(agent) for agent in team.agents]
    for agent, weights in zip(plain.agents, averaged, strict=True):
        for weight, value in zip(agent.policy.language_parameters(), weights, strict=True):
            weight.data.copy_(value)
    assert team.evaluate() == plain.evaluate()


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_a_checkpoint_holds_the_average_for_others(
    tiny_gpt2_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents saved agents that are not those that were evaluated."""
    team = trainer(tiny_gpt2_dir, tmp_path, weight_average_decay=0.5, **options)
    train(team, 3)
    before = snapshot(team.agents[1])
    path = team.save(3)
    assert same_bits(snapshot(team.agents[1]), before)
    with team.agents[1].as_result():
        result = language_weights(team.agents[1])
    team.policies[1].weights.load(path / "agent_1")
    assert all(map(torch.equal, language_weights(team.agents[1]), result))
