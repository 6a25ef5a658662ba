"""Means of weights, over time and over agents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from cory.cli import main
from cory.models.batch import position_ids
from cory.models.policy import LanguageModel
from cory.models.weights import replaced
from cory.team.agent import Agent
from cory.team.averaging import WeightAverage, interpolate_to_mean, merged
from cory.training.runs import build, open_model, take_weights
from cory.training.trainer import CORYTrainer
from tests.teams import disturb
from tests.tiny_runs import queries, same_bits, settings, share_of_letters, snapshot, trainer


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


KINDS = {"full": {}, "adapters": {"use_peft": True, "lora_r": 3, "lora_alpha": 7}}


@pytest.fixture(scope="module", params=KINDS)
def team(
    request: pytest.FixtureRequest, tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> CORYTrainer:
    """Three agents that are far from one another."""
    directory = tmp_path_factory.mktemp("team")
    team = trainer(tiny_gpt2_dir, directory, num_agents=3, **KINDS[request.param])
    for index, policy in enumerate(team.policies):
        disturb(policy, seed=index)
    team.records.begin()
    team.save(1)
    return team


@torch.no_grad()
def whole_weights(policy: LanguageModel) -> dict[str, Tensor]:
    """The weight of every layer as the model computes with it, adapters included."""
    with policy.activate():
        return {
            name: module.weight + sum(module.get_delta_weight(a) for a in module.active_adapters)
            if isinstance(module, LoraLayer)
            else module.weight.clone()
            for name, module in policy.model.named_modules()
            if isinstance(getattr(module, "weight", None), Tensor) and "lora_" not in name
        }


@pytest.mark.parametrize("shares", [None, [1.0, 5.0, -2.0]])
def test_merged_weights_are_the_mean_of_the_agents(
    team: CORYTrainer, shares: list[float] | None
) -> None:
    """Prevents a mean of an adapter's factors, scales that count twice, and agents that change."""
    before = [snapshot(agent) for agent in team.agents]
    alone = [whole_weights(policy) for policy in team.policies]
    fractions = [1 / 3] * 3 if shares is None else [share / 4 for share in shares]
    with merged(team.policies, shares) as mean:
        together = whole_weights(mean)
    for name, weight in together.items():
        expected = sum(f * weights[name] for f, weights in zip(fractions, alone, strict=True))
        torch.testing.assert_close(weight, expected, atol=1e-5, rtol=1e-5)
    assert any(not torch.allclose(together[name], alone[0][name]) for name in together)
    assert all(map(same_bits, map(snapshot, team.agents), before))
    after = [whole_weights(policy) for policy in team.policies]
    assert all(map(same_bits, after, alone))


def test_the_mean_of_one_agent_is_the_agent(team: CORYTrainer) -> None:
    """Prevents a team of one from being a case of its own."""
    with merged(team.policies[1:2]) as mean:
        together = whole_weights(mean)
    for name, weight in whole_weights(team.policies[1]).items():
        torch.testing.assert_close(together[name], weight, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shares", [[1.0, 2.0], [1.0, -2.0, 1.0]])
def test_shares_without_a_mean_are_refused(team: CORYTrainer, shares: list[float]) -> None:
    """Prevents a mean that leaves somebody out, or that divides by 0."""
    with pytest.raises(ValueError, match=r"one number per agent \(3 of them\)"):
        merged(team.policies, shares).__enter__()


def test_adapters_without_an_exact_mean_are_refused(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a mean whose scale is wrong: peft keeps the rank-stabilised one for the new rank."""
    config = LoraConfig(use_rslora=True, fan_in_fan_out=True, task_type="CAUSAL_LM")
    team = CORYTrainer(
        reward_funcs=share_of_letters,
        args=settings(tiny_gpt2_dir, tmp_path),
        train_dataset=queries(),
        peft_config=config,
    )
    with pytest.raises(ValueError, match="have no exact mean as an adapter: use plain LoRA"):
        merged(team.policies).__enter__()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluating_the_mean_changes_nothing(
    tiny_llama_dir: Path, tmp_path: Path, kind: str
) -> None:
    """Prevents an evaluation that freezes an adapter, or leaves the mean behind in an agent."""
    options = {"eval_dataset": queries(4), "eval_steps": 1, **KINDS[kind]}
    with_mean = trainer(tiny_llama_dir, tmp_path / "with", evaluate_merged=True, **options)
    without = trainer(tiny_llama_dir, tmp_path / "without", **options)
    metrics = with_mean.train()
    expected = without.train()
    assert {key: value for key, value in metrics.items() if "merged/" not in key} == expected
    assert all(map(same_bits, map(snapshot, with_mean.agents), map(snapshot, without.agents)))
    keys = {key.removeprefix("agent_0/") for key in expected if key.startswith("agent_0/")}
    assert {key.removeprefix("merged/") for key in metrics if "merged/" in key} == keys


def test_a_merged_run_loads_without_this_library(team: CORYTrainer, tmp_path: Path) -> None:
    """Prevents a merged model that only its maker can use, or that is not the mean."""
    main(["merge", team.args.output_dir, "--output_dir", str(tmp_path / "mean")])
    tokens = AutoTokenizer.from_pretrained(tmp_path / "mean")("The film was", return_tensors="pt")
    name = team.args.model_name_or_path
    if team.args.use_peft:
        base = AutoModelForCausalLM.from_pretrained(name)
        loaded = PeftModel.from_pretrained(base, str(tmp_path / "mean"))
    else:
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "mean")
    with torch.no_grad(), merged(team.policies) as mean:
        hidden = mean.hidden_states(
            tokens["input_ids"], tokens["attention_mask"], position_ids(tokens["attention_mask"])
        )
        torch.testing.assert_close(
            mean.logits(hidden, temperature=1.0),
            loaded.eval()(**tokens).logits,
            atol=1e-4,
            rtol=1e-4,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean"]


def test_a_merged_run_is_weighted_as_asked(team: CORYTrainer, tmp_path: Path) -> None:
    """Prevents weights of the command line that go to the wrong agents."""
    directory = tmp_path / "first"
    words = ["--weights", "3,0,0", "--step", "1", "--output_dir", str(directory)]
    main(["merge", team.args.output_dir, *words])
    alone = whole_weights(team.policies[0])
    subject = open_model(
        str(directory), team.args.replace(num_agents=1), str(team.args.model_name_or_path)
    )
    policies = build(subject, train_dataset=queries(), reward_funcs=share_of_letters).policies
    take_weights(policies, subject)
    loaded = whole_weights(policies[0])
    for name, weight in alone.items():
        torch.testing.assert_close(loaded[name], weight, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a new directory with --output_dir"),
        (["--output_dir", "{taken}"], "exists already: choose another output_dir"),
        (["--output_dir", "{new}", "--weights", "1;2"], "write numbers with commas"),
        (["--output_dir", "{new}", "--weights", "1,2"], r"one number per agent \(3 of them\)"),
    ],
)
def test_a_merge_that_cannot_be_done(
    team: CORYTrainer, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a traceback, and a run that is overwritten by its own mean."""
    filled = [word.format(taken=team.args.output_dir, new=tmp_path / "new") for word in words]
    with pytest.raises(SystemExit):
        main(["merge", team.args.output_dir, *filled])
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_agents_meet_at_an_exchange_and_only_there(
    tiny_gpt2_dir: Path, tmp_path: Path, kind: str, share: float
) -> None:
    """Prevents merging at another step, value heads left behind, and moments that are lost."""
    options = {"role_exchange_period": 2, "max_steps": 3, **KINDS[kind]}
    team = trainer(tiny_gpt2_dir, tmp_path / "team", merge_on_exchange=share, **options)
    plain = trainer(tiny_gpt2_dir, tmp_path / "plain", **options)
    for step in range(2):
        team.iterate(step)
        plain.iterate(step)
    apart = [snapshot(agent) for agent in team.agents]
    assert all(map(same_bits, apart, map(snapshot, plain.agents)))
    assert any(not torch.equal(apart[0][name], apart[1][name]) for name in apart[0])

    interpolate_to_mean(plain.policies, share)
    met = [snapshot(agent) for agent in plain.agents]
    for name, first in apart[0].items():
        second = apart[1][name]
        if not name.startswith("weight"):
            assert torch.equal(met[0][name], first), "moments move"
            continue
        gap = (1 - share) * (second - first)
        torch.testing.assert_close(met[1][name] - met[0][name], gap, atol=1e-6, rtol=1e-5)
        middle = (met[0][name] + met[1][name]) / 2
        torch.testing.assert_close(middle, (first + second) / 2, atol=1e-6, rtol=1e-5)
        assert share < 1 or torch.equal(met[0][name], met[1][name])

    team.iterate(2)
    plain.iterate(2)
    assert all(map(same_bits, map(snapshot, team.agents), map(snapshot, plain.agents)))
