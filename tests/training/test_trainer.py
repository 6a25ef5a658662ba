"""The loop: what an iteration does, exchange, determinism, learning, and what a user may bring."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from cory import CORYTrainer, PPOTrainer
from cory.config.presets import PRESETS
from cory.team.agent import Agent, AgentState
from cory.training.optimizer import make_scheduler, next_iteration
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


# Everything that an agent has of its own, and that differs between agents.
OWN_STATE: dict[str, Any] = {
    "max_steps": 5,
    "role_exchange_period": 2,
    "partner_reward_weight": 0.5,
    "kl_controller": "adaptive",
    "kl_target": 0.1,
    "kl_horizon": 50,
    "normalize_rewards": True,
    "elastic_reset_period": 4,
    "elastic_reset_decay": 0.9,
    "weight_average_decay": 0.7,
    "partner_samples_weight": 0.5,
    "learning_rate": [4e-3, 5e-4],
    "lr_scheduler_type": "linear",
    "weight_decay": 0.1,
}


def belongings(team: CORYTrainer) -> list[tuple[Agent, dict[str, Tensor], AgentState, float]]:
    """What each agent has: its tensors, its other state, and its learning rate."""
    rates = [group["lr"] for group in team.optimizer.param_groups]
    assert len(rates) == len(team.agents)
    return [
        (agent, snapshot(agent), deepcopy(agent.state), rate)
        for agent, rate in zip(team.agents, rates, strict=True)
    ]


def assert_all_kept(before: Any, after: Any) -> None:
    for (agent, tensors, state, rate), (same, now, state_now, rate_now) in zip(
        before, after, strict=True
    ):
        assert same is agent
        assert same_bits(tensors, now)
        assert (state_now, rate_now) == (state, rate)


def assert_all_differ(found: Any) -> None:
    """Nothing can be swapped between the agents unnoticed."""
    (_, tensors, state, _), (_, others, other_state, _) = found
    kinds = {name.partition("/")[0] for name in tensors}
    assert kinds == {"weight", "step", "exp_avg", "exp_avg_sq", "average", "weight_average"}
    for kind in kinds - {"step"}:
        pairs = [(tensors[name], others[name]) for name in tensors if name.startswith(f"{kind}/")]
        assert not any(torch.equal(*pair) for pair in pairs if pair[0].any()), kind
        assert any(pair[0].any() for pair in pairs), kind
    assert state.kl_coef != other_state.kl_coef
    assert state.reward_scalers != other_state.reward_scalers


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_an_exchange_changes_roles_and_nothing_else(
    tiny_gpt2_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents an exchange that resets, copies or hands over what belongs to an agent.

    What each has is looked at between its last update and the first answers in its new role.
    """
    seen: list[Any] = []

    def looking(completions: list[str], **columns: Any) -> list[float]:
        seen.append(belongings(team))
        return share_of_letters([], completions)

    team = trainer(tiny_gpt2_dir, tmp_path, looking, **OWN_STATE, **options)
    team.iterate(0)
    team.iterate(1)
    # Both are 0 as long as nothing goes wrong.
    team.agents[0].state.skips_in_a_row = 1
    team.agents[1].state.alarms_in_a_row = 3
    before, where = belongings(team), addresses(team)
    assert_all_differ(before)
    assert before[0][-1] != before[1][-1], "learning rates differ"
    seen.clear()
    metrics = team.iterate(2)
    assert metrics["agent_1/task_reward"] == metrics["pioneer/task_reward"], "they did exchange"
    assert_all_kept(before, seen[0])
    assert addresses(team) == where, "moments stay where they are"


def addresses(team: CORYTrainer) -> dict[tuple[int, str], int]:
    """Where in memory the optimizer keeps what it has of each parameter."""
    return {
        (id(parameter), name): moment.data_ptr()
        for parameter, state in team.optimizer.state.items()
        for name, moment in state.items()
    }


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_training_over_exchanges_is_a_loop_without_them(
    tiny_gpt2_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents an exchange, or what follows it, from giving an agent what is another one's.

    By hand, each agent keeps what it has, and only who speaks first is looked up; nothing else
    knows of exchanges. The result must be the same, bit for bit.
    """
    trained = trainer(tiny_gpt2_dir, tmp_path / "train", **OWN_STATE, **options)
    trained.train()
    team = trainer(tiny_gpt2_dir, tmp_path / "by hand", **OWN_STATE, **options)
    for step, order in enumerate([(0, 1), (0, 1), (1, 0), (1, 0), (0, 1)]):
        found = team.rollout.run(team.queries(step), step).records
        assert tuple(record.generation.agent for record in found) == order
        agents = [team.agents[index] for index in order]
        scaled = [agent.scale_rewards(record) for agent, record in zip(agents, found, strict=True)]
        for agent, record in zip(agents, scaled, strict=True):
            agent.update(record, step, scaled)
        team.scheduler.step()
    assert_all_differ(belongings(team))
    for ours, theirs in zip(belongings(trained), belongings(team), strict=True):
        assert same_bits(ours[1], theirs[1])
        assert ours[2:] == theirs[2:]


def test_an_agent_counts_its_own_rewards_only(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents statistics of what a partner earned, from whose answers the preset `team` learns."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        **PRESETS["team"],
        normalize_rewards=True,
        role_exchange_period=1,
    )

    def counts() -> list[dict[str, float]]:
        return [
            {role: scaler.count for role, scaler in agent.state.reward_scalers.items()}
            for agent in team.agents
        ]

    metrics = team.iterate(0)
    assert "agent_1/from_agent_0/importance" in metrics, "it learns from its partner"
    assert counts() == [{"pioneer": 8}, {"observer": 8}]
    for agent, role in zip(team.agents, ("pioneer", "observer"), strict=True):
        mean = agent.state.reward_scalers[role].mean
        assert mean == pytest.approx(metrics[f"{role}/team_reward"])
    team.iterate(1)
    assert counts() == [{"pioneer": 8, "observer": 8}] * 2
    team.iterate(2)
    assert counts() == [{"pioneer": 16, "observer": 8}, {"pioneer": 8, "observer": 16}]


def test_prompts_show_the_exchange(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents roles that swap by name only, while the prompts stay with the agents."""
    team = trainer(tiny_gpt2_dir, tmp_path, role_exchange_period=2, max_steps=6)
    pioneers = []
    for step in range(6):
        iteration = team.rollout.run(team.queries(step), step)
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


def test_a_schedule_gets_its_own_arguments(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a least rate that is set and never held."""
    args = settings(
        tiny_gpt2_dir,
        tmp_path,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        max_steps=2,
    )
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(optimizer, args)
    for _ in range(2):
        next_iteration(scheduler)
    assert scheduler.get_last_lr() == pytest.approx([0.1])
    with pytest.raises(ValueError, match="'nonsense': 1} cannot be used"):
        make_scheduler(optimizer, args.replace(lr_scheduler_kwargs={"nonsense": 1}))


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
    iteration = team.rollout.run(team.queries(0), 0)
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
        metrics["agent_0/task_reward"], abs=1e-6
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
    first, second = team.rollout.run(team.queries(0), 0).records
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


def test_held_out_queries_are_some_of_the_held_out_set(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an evaluation on training queries, or on more of them than were asked for."""
    asked: list[list[str]] = []

    def listen(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        asked.append(prompts)
        return [0.0] * len(completions)

    held_out = Dataset.from_dict({"prompt": [f"Held out {row}" for row in range(9)]})
    team = trainer(
        tiny_gpt2_dir, tmp_path, listen, eval_dataset=held_out, num_agents=1, num_eval_queries=4
    )
    team.evaluate()
    (prompts,) = asked
    assert len(set(prompts)) == 4
    assert set(prompts) < set(held_out["prompt"])
    assert prompts != held_out["prompt"][:4]


def test_the_betas_of_adam_are_settings(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents moments that decay as they like."""
    team = trainer(tiny_gpt2_dir, tmp_path, adam_beta1=0.5, adam_beta2=0.7)
    assert {group["betas"] for group in team.optimizer.param_groups} == {(0.5, 0.7)}


def test_training_returns_a_reward_without_held_out_queries(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents a KeyError of `train()["task_reward"]`, also where a finished run is resumed."""
    found = trainer(tiny_gpt2_dir, tmp_path).train()
    rewards = [found[f"agent_{agent}/task_reward"] for agent in (0, 1)]
    assert found["task_reward"] == pytest.approx(sum(rewards) / 2)
    again = trainer(tiny_gpt2_dir, tmp_path, resume=True).train()
    assert again == found
