"""The loop: what an iteration does, exchange, determinism, learning, and what a user may bring."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from pyarrow.parquet import read_table
from transformers import AutoModelForCausalLM, AutoTokenizer

from cory import CORYTrainer, PPOTrainer
from cory.team.types import Iteration
from cory.training.optimizers import make_scheduler
from tests.tiny_runs import (
    queries,
    records,
    same_bits,
    settings,
    share_of_letters,
    snapshot,
    trainer,
)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("tiny_gpt2_dir", {"num_mini_batches": 2}),
        ("tiny_gpt2_dir", {"use_peft": True, "temperature": 0.7}),
        ("tiny_llama_dir", {"num_agents": 3, "per_device_train_batch_size": 3}),
        ("tiny_llama_dir", {"use_peft": True, "gradient_checkpointing": True}),
    ],
)
def test_the_first_ratio_is_one_in_every_iteration(
    request: pytest.FixtureRequest, tmp_path: Path, model: str, options: dict[str, Any]
) -> None:
    """Prevents scoring an answer otherwise than it was sampled: PPO's ratio would be wrong."""
    team = trainer(request.getfixturevalue(model), tmp_path, role_exchange_period=1, **options)
    for step in range(3):
        metrics = team.iterate(step)
        for agent in team.agents:
            assert metrics[f"{agent.name}/first_ratio_error"] < 1e-4
            if step == 0:
                assert abs(metrics[f"{agent.name}/kl"]) < 1e-6


def play(team: CORYTrainer, step: int) -> Iteration:
    """A rollout and all updates, without records."""
    iteration = team.rollout.run(team.queries.at(step), step)
    for record in iteration.records:
        team.agents[record.generation.agent].update(record, step)
    return iteration


def moments(team: CORYTrainer) -> dict[int, dict[str, torch.Tensor]]:
    """Optimizer state by the identity of the parameter."""
    return {id(parameter): dict(state) for parameter, state in team.optimizer.state.items()}


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_exchange_moves_roles_and_nothing_else(
    tiny_gpt2_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents an exchange that resets, copies or hands over what belongs to an agent."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        role_exchange_period=2,
        kl_controller="adaptive",
        kl_target=1.0,
        kl_horizon=50,
        normalize_rewards=True,
        **options,
    )
    orders = [
        [generation.generation.agent for generation in play(team, step).records]
        for step in range(2)
    ]
    snapshots = [snapshot(agent) for agent in team.agents]
    tensors, states = moments(team), [agent.state for agent in team.agents]
    scalers = [
        agent.state.reward_scalers["pioneer" if not i else "observer"]
        for i, agent in enumerate(team.agents)
    ]
    coefficients = [agent.state.kl_coef for agent in team.agents]
    exchanged = team.rollout.run(team.queries.at(2), 2)

    assert orders == [[0, 1], [0, 1]]
    assert [generation.generation.agent for generation in exchanged.records] == [1, 0]
    for agent, before in zip(team.agents, snapshots, strict=True):
        assert same_bits(snapshot(agent), before)
    after = moments(team)
    assert after.keys() == tensors.keys()
    for parameter, state in tensors.items():
        for name, moment in state.items():
            assert after[parameter][name].data_ptr() == moment.data_ptr()

    team.iterate(2)
    assert [agent.state for agent in team.agents] == states
    assert all(agent.state is state for agent, state in zip(team.agents, states, strict=True))
    for agent, coefficient, role, scaler in zip(
        team.agents, coefficients, ("pioneer", "observer"), scalers, strict=True
    ):
        assert agent.state.kl_coef != coefficient, "the controller goes on from its own value"
        assert agent.state.reward_scalers[role] is scaler
        assert set(agent.state.reward_scalers) == {"pioneer", "observer"}


def test_several_observer_answers_are_learnt_from_and_counted(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents samples that matched compute does not see, and groups that mix references."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        observer_generations=3,
        num_generations=2,
        advantage_estimator="leave_one_out",
        log_samples_steps=1,
        role_exchange_period=1,
    )
    team.train()
    lines = records(tmp_path)
    assert [line["total_samples"] for line in lines if "total_samples" in line] == [32, 64]
    rows = read_table(tmp_path / "samples/step-000001.parquet").to_pylist()
    indices = [row["index"] for row in rows if row["role"] == "observer"]
    assert indices == [index for index in range(8) for _ in range(3)]
    queries_of = {row["index"]: row["query"] for row in rows if row["role"] == "pioneer"}
    assert all(row["query"] == queries_of[row["index"]] for row in rows)


def test_prompts_show_the_exchange(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents roles that swap by name only, while the prompts stay with the agents."""
    team = trainer(tiny_gpt2_dir, tmp_path, role_exchange_period=2, max_steps=6)
    pioneers = []
    for step in range(6):
        iteration = team.rollout.run(team.queries.at(step), step)
        first, second = iteration.records
        plain = [
            team.tokenizer(query)["input_ids"]
            for query in [row["prompt"] for row in iteration.rows]
        ]
        assert first.generation.prompt_ids == plain
        for prompt, answer in zip(
            second.generation.prompt_ids, first.generation.response_ids, strict=True
        ):
            shown = [token for token in answer if token != team.tokenizer.eos_token_id]
            assert str(shown)[1:-1] in str(prompt)
        pioneers.append(first.generation.agent)
    assert pioneers == [0, 0, 1, 1, 0, 0]


def test_reset_on_exchange_forgets_at_exchanges_only(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the control arm from losing more, less, or at another time than it says."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        reset_on_exchange=True,
        role_exchange_period=2,
        num_ppo_epochs=1,
        kl_controller="adaptive",
        kl_target=1.0,
        kl_horizon=50,
        normalize_rewards=True,
    )
    parameter = team.agents[0].policy.trainable_parameters()[0]
    adam_steps, coefficients, counts = [], [], []
    for step in range(5):
        metrics = team.iterate(step)
        adam_steps.append(int(team.optimizer.state[parameter]["step"]))
        coefficients.append(metrics["agent_0/kl_coef"])
        scalers = team.agents[0].state.reward_scalers
        counts.append({role: scaler.count for role, scaler in scalers.items()})
    assert adam_steps == [1, 2, 1, 2, 1]
    assert [value == 0.05 for value in coefficients] == [True, False, True, False, True]
    assert counts == [
        {"pioneer": 8},
        {"pioneer": 16},
        {"observer": 8},
        {"observer": 16},
        {"pioneer": 8},
    ]


def test_a_single_agent_forgets_when_a_team_would(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the control `ppo-reset` from being plain PPO under another name."""
    single = trainer(
        tiny_gpt2_dir,
        tmp_path,
        num_agents=1,
        reset_on_exchange=True,
        role_exchange_period=2,
        num_ppo_epochs=1,
    )
    parameter = single.agents[0].policy.trainable_parameters()[0]
    adam_steps = []
    for step in range(5):
        single.iterate(step)
        adam_steps.append(int(single.optimizer.state[parameter]["step"]))
    assert adam_steps == [1, 2, 1, 2, 1]


def test_forgetting_keeps_the_weights(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a reset of the optimizer from resetting the policy or the value head."""
    team = trainer(tiny_gpt2_dir, tmp_path)
    team.iterate(0)
    parameters = [agent.policy.trainable_parameters() for agent in team.agents]
    before = [[weight.detach().clone() for weight in weights] for weights in parameters]
    team.agents[0].reset_state()
    assert all(map(torch.equal, parameters[0], before[0]))
    assert not any(parameter in team.optimizer.state for parameter in parameters[0])
    assert all(parameter in team.optimizer.state for parameter in parameters[1])


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_the_seed_decides_everything(
    tiny_llama_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents a run that nobody can repeat, and seeds that make no difference."""
    runs = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        team = trainer(tiny_llama_dir, tmp_path / name, seed=seed, **options)
        team.train()
        runs[name] = [snapshot(agent) for agent in team.agents], records(tmp_path / name)
    assert all(map(same_bits, runs["first"][0], runs["again"][0]))
    assert runs["first"][1] == runs["again"][1]
    assert not any(map(same_bits, runs["first"][0], runs["other"][0]))


def share_of_low_ids(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """Share of an answer's tokens that are among the first fifth of the vocabulary."""
    return [sum(token < 60 for token in ids) / len(ids) for ids in completion_ids]


@pytest.mark.parametrize(("num_agents", "max_steps"), [(1, 5), (2, 10)])
def test_both_agents_alone_learn(
    tiny_gpt2_dir: Path, tmp_path: Path, num_agents: int, max_steps: int
) -> None:
    """Prevents an update that goes nowhere, or that teaches only who speaks last."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        reward_funcs=share_of_low_ids,
        eval_dataset=queries(),
        num_eval_queries=10,
        num_eval_samples=8,
        num_agents=num_agents,
        batch_size=64,
        max_completion_length=3,
        max_steps=max_steps,
        num_ppo_epochs=4,
        role_exchange_period=1,
        learning_rate=5e-3,
        kl_coef=0.01,
    )
    before, after = team.evaluate(), team.train()
    for agent in team.agents:
        risen = after[f"{agent.name}/task_reward"] - before[f"{agent.name}/task_reward"]
        assert risen > 0.15, "its standard error is 0.04"


def test_learning_rate_schedules(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a schedule that advances per optimizer step, or not at all."""
    team = trainer(tiny_gpt2_dir, tmp_path, lr_scheduler_type="linear", warmup_steps=1, max_steps=4)
    rates = []
    for step in range(4):
        rates.append([group["lr"] for group in team.optimizer.param_groups])
        team.iterate(step)
    assert rates == [pytest.approx([rate] * 2) for rate in (0.0, 1e-3, 2e-3 / 3, 1e-3 / 3)]


@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "warmup_stable_decay", "slow"])
def test_a_schedule_that_cannot_be_used(tiny_gpt2_dir: Path, tmp_path: Path, name: str) -> None:
    """Prevents an error of the schedule at the first step, after everything was loaded."""
    args = settings(tiny_gpt2_dir, tmp_path, lr_scheduler_type=name)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match=f"lr_scheduler_type='{name}'"):
        make_scheduler(optimizer, args)


def test_evaluation_names_agents_and_their_mean(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a result of the team from being reported where the agents alone are meant."""
    team = trainer(tiny_gpt2_dir, tmp_path, eval_dataset=queries(4), eval_steps=2, max_steps=3)
    final = team.train()
    evaluations = [line for line in records(tmp_path) if "eval/task_reward" in line]
    assert [line["step"] for line in evaluations] == [0, 2, 3]
    assert {f"eval/{key}": value for key, value in final.items()} == {
        key: value for key, value in evaluations[-1].items() if key != "step"
    }
    alone = [final[f"agent_{index}/task_reward"] for index in (0, 1)]
    assert final["task_reward"] == pytest.approx(sum(alone) / 2)
    assert trainer(tiny_gpt2_dir, tmp_path / "nothing held out").evaluate() == {}


def test_a_model_object_and_its_tokenizer(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents a user's own objects from being replaced by what a path names."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    args = settings(tiny_llama_dir, tmp_path).replace(model_name_or_path=None)
    team = CORYTrainer(
        model, share_of_letters, args=args, train_dataset=queries(), processing_class=tokenizer
    )
    assert team.tokenizer is tokenizer
    team.train()
    named = trainer(tiny_llama_dir, tmp_path / "named")
    named.train()
    assert all(map(same_bits, map(snapshot, team.agents), map(snapshot, named.agents)))


def test_a_model_by_name_and_ppo(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents `PPOTrainer` from being anything but a team of one."""
    args = settings(tiny_gpt2_dir, tmp_path).replace(model_name_or_path=None)
    team = PPOTrainer(str(tiny_gpt2_dir), share_of_letters, args=args, train_dataset=queries())
    assert (len(team.agents), team.args.model_name_or_path) == (1, str(tiny_gpt2_dir))
    assert "agent_0/task_reward" in team.train()


def test_a_model_with_an_adapter_starts_from_it(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents training from the bare base, and a KL that is measured against it."""
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    model = get_peft_model(base, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    assert isinstance(model, PeftModel)
    team = CORYTrainer(
        model,
        share_of_letters,
        args=settings(tiny_llama_dir, tmp_path, eval_steps=None),
        train_dataset=queries(),
    )
    metrics = team.iterate(0)
    assert abs(metrics["agent_0/kl"]) < 1e-6
    assert team.iterate(1)["agent_1/kl"] > 1e-6


def test_reward_functions_of_trl_work_unchanged(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a reward function written for TRL from needing a change."""
    seen: list[dict[str, Any]] = []

    def with_columns(prompts: list[str], completions: list[str], topic: list[int], **kwargs: Any):
        seen.append({"prompts": prompts, "topic": topic, **kwargs})
        return [float(number % 3) for number in topic]

    async def asynchronous(completions: list[str], **kwargs: Any) -> list[float]:
        await asyncio.sleep(0)
        return [1.0] * len(completions)

    def sometimes(prompts: list[str], **kwargs: Any) -> list[float | None]:
        return [1.0 if len(prompt) > 10 else None for prompt in prompts]

    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        reward_funcs=[with_columns, asynchronous, sometimes],
        reward_weights=[1.0, 10.0, 100.0],
    )
    iteration = team.rollout.run(team.queries.at(0), 0)
    expected = torch.tensor(
        [
            len(query) % 3 + 10.0 + 100.0 * (len(query) > 10)
            for query in [row["prompt"] for row in iteration.rows]
        ]
    )
    for record, columns in zip(iteration.records, seen, strict=True):
        assert torch.equal(record.task_reward, expected)
        assert torch.equal(record.team_reward, 2 * expected)
        assert columns["prompts"] == [row["prompt"] for row in iteration.rows], (
            "observers are judged on the plain query"
        )
        assert columns["completion_ids"] == record.generation.response_ids
        assert record.reward_parts["sometimes"] == 1.0
        assert set(record.reward_parts) == {"with_columns", "asynchronous", "sometimes"}


def test_a_reward_model_by_name(
    tiny_gpt2_dir: Path, tiny_classifier_dir: Path, tmp_path: Path
) -> None:
    """Prevents a string from being anything but the reward model it names."""
    team = trainer(tiny_gpt2_dir, tmp_path, reward_funcs=str(tiny_classifier_dir))
    metrics = team.iterate(0)
    assert metrics["agent_0/reward/tiny-classifier"] == pytest.approx(
        metrics["agent_0/task_reward"]
    )
    assert metrics["agent_0/task_reward_std"] > 0


def test_chat_messages_as_queries(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents conversational data sets from being shown as the text of a list."""
    seen: list[Any] = []

    def reward(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        seen.append((prompts, completions))
        return [float(len(completion[0]["content"])) for completion in completions]

    rows = [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"How is {word}?"}]
        for word in ("rain", "snow", "the weather in spring", "it")
    ]
    team = CORYTrainer(
        reward_funcs=reward,
        args=settings(tiny_llama_dir, tmp_path, log_samples_steps=1),
        train_dataset=Dataset.from_dict({"prompt": rows}),
    )
    team.train()
    prompts, completions = seen[0]
    assert prompts[0] in rows
    assert completions[0][0]["role"] == "assistant"
    first, second = team.rollout.run(team.queries.at(0), 0).records
    text = team.tokenizer.decode(first.generation.prompt_ids[0])
    assert text.startswith("<s>[system] Be kind.\n[user] How is")
    assert text.endswith("[assistant] ")
    assert text.count("<s>") == 1
    assert "Better: How is" in team.tokenizer.decode(second.generation.prompt_ids[0])


def test_trackers_are_told_what_the_file_holds(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an empty dashboard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(
        tiny_gpt2_dir,
        tmp_path,
        report_to=["tensorboard"],
        run_name="tiny",
        eval_dataset=queries(4),
    ).train()
    (directory,) = {path.parent for path in tmp_path.glob("tiny/events*")}
    events = EventAccumulator(str(directory)).Reload()
    written = [
        (line["step"], line["agent_0/task_reward"])
        for line in records(tmp_path)
        if "agent_0/task_reward" in line
    ]
    shown = [(event.step, event.value) for event in events.Scalars("agent_0/task_reward")]
    assert shown == [(step, pytest.approx(value)) for step, value in written]
    assert "eval/agent_1/kl" in events.Tags()["scalars"]
