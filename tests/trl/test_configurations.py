"""TRL's configurations: every field has its row, and says what becomes of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from transformers import HfArgumentParser

from cory.config import CORYConfig
from cory.trl import GRPOConfig, PPOConfig, RLOOConfig
from cory.trl.fields import SharedFields
from cory.trl.translate import translate

CONFIGURATIONS = (GRPOConfig, RLOOConfig, PPOConfig)


def translated(kind: Any = GRPOConfig, num_rows: int | None = 100, **arguments: Any) -> CORYConfig:
    return translate(kind("runs/trl", use_cpu=True, **arguments), num_rows).settings


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_every_field_has_a_row_and_every_row_a_field(kind: Any) -> None:
    """Prevents a field that is taken and then silently does nothing."""
    names = {one.name for one in dataclasses.fields(kind.table_class)}
    assert names - kind.table.keys() == set()
    assert {one.name for one in dataclasses.fields(SharedFields)} <= names


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_defaults_have_no_effect_that_is_not_trls(kind: Any) -> None:
    """Prevents a script with TRL's defaults that is warned, or refused."""
    assert translate(kind("runs/trl", use_cpu=True), 100).notes == ()


def test_a_grpo_trainer_is_trls() -> None:
    """Prevents TRL's names with cory's defaults."""
    found = translated(beta=0.04, epsilon_high=0.28)
    assert (found.num_agents, found.advantage_estimator, found.num_ppo_epochs) == (1, "group", 1)
    assert (found.kl_placement, found.kl_estimator, found.kl_coef) == ("loss", "k3", 0.04)
    assert found.use_bias_correction_kl
    assert (found.cliprange, found.cliprange_high, found.loss_type) == (0.2, 0.28, "dapo")
    assert (found.learning_rate, found.lr_scheduler_type, found.seed) == (1e-6, "linear", 42)
    assert (found.batch_size, found.num_generations, found.max_steps) == (8, 8, 300)
    assert (found.gradient_checkpointing, found.bf16) == (True, True)


def test_an_rloo_trainer_is_trls() -> None:
    """Prevents RLOO with a ratio per token, or with the KL in the loss."""
    found = translated(RLOOConfig, normalize_advantages=True, reward_clip_range=(-2.0, 2.0))
    assert (found.advantage_estimator, found.importance_sampling_level, found.loss_type) == (
        "leave_one_out",
        "sequence_product",
        "grpo",
    )
    assert (found.kl_placement, found.kl_estimator, found.kl_coef) == ("reward", "k1", 0.05)
    assert (found.whiten_advantages, found.score_clip) == (True, 2.0)


def test_a_ppo_trainer_is_trls() -> None:
    """Prevents mini-batches, episodes and lengths of another PPO."""
    found = translated(
        PPOConfig,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_mini_batches=3,
        total_episodes=50,
        response_length=9,
    )
    assert (found.batch_size, found.num_mini_batches, found.num_ppo_epochs) == (24, 3, 4)
    assert (found.max_steps, found.max_completion_length, found.temperature) == (3, 9, 0.7)
    assert (found.advantage_estimator, found.learning_rate) == ("gae", 3e-6)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"gradient_accumulation_steps": 4}, (32, 1, 75)),
        ({"steps_per_generation": 4}, (32, 4, 75)),
        ({"generation_batch_size": 16, "num_iterations": 3}, (16, 2, 150)),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 2}, (32, 1, 75)),
        ({"steps_per_generation": 2, "max_steps": 5}, (16, 2, 3)),
    ],
)
def test_batches_and_steps(arguments: dict[str, int], expected: tuple[int, int, int]) -> None:
    """Prevents an iteration, or a training, of another size than TRL's."""
    found = translated(**arguments)
    assert (found.batch_size, found.num_mini_batches, found.max_steps) == expected


def test_periods_and_warm_up_count_optimizer_steps() -> None:
    """Prevents an evaluation, or a warm-up, that is several times as late."""
    found = translated(
        steps_per_generation=2,
        eval_strategy="steps",
        eval_steps=20,
        save_steps=0.1,
        warmup_ratio=0.1,
        max_steps=100,
    )
    assert (found.max_steps, found.eval_steps, found.save_steps) == (50, 10, 5)
    assert found.warmup_steps == 5
    by_epoch = translated(eval_strategy="epoch", save_strategy="no", warmup_steps=0.5)
    assert (by_epoch.eval_steps, by_epoch.save_steps, by_epoch.warmup_steps) == (100, None, 150)


def test_all_problems_are_named_at_once() -> None:
    """Prevents a script that is corrected one error at a time."""
    with pytest.raises(ValueError, match="problems") as refusal:
        GRPOConfig(
            "runs/trl",
            deepspeed=None,
            delta=2.0,
            beta=-1.0,
            loss_type="cispo",
            num_generations=3,
            repetition_penalty=1.1,
            generation_kwargs={"num_beams": 4},
        )
    message = str(refusal.value)
    assert message.startswith("6 problems")
    for part in ("delta=2.0", "beta=-1.0", "'cispo'", "num_generations=3", "1.1", "num_beams"):
        assert part in message


def test_an_unknown_keyword_gets_the_nearest_name() -> None:
    """Prevents Python's own message, which knows no alternative."""
    with pytest.raises(ValueError, match="'betta' is not a field of GRPOConfig: did you mean beta"):
        GRPOConfig("runs/trl", betta=0.1)


def test_no_ops_say_so_once() -> None:
    """Prevents an argument that is silently without effect."""
    args = GRPOConfig(
        "runs/trl",
        use_cpu=True,
        optim="paged_adamw_8bit",
        use_vllm=True,
        dataloader_num_workers=2,
        max_prompt_length=64,
    )
    notes = translate(args, 10).notes
    assert [note.partition("=")[0] for note in notes] == [
        "dataloader_num_workers",
        "max_prompt_length",
        "use_vllm",
    ]


def test_settings_of_cory_stand_beside_trls() -> None:
    """Prevents a team that needs another class, and a setting that a default wins over."""
    found = translated(
        num_agents=2,
        role_exchange_period=None,
        kl_placement="reward",
        kl_coef=0.5,
        model_name_or_path="somewhere",
        use_bias_correction_kl=False,
    )
    assert (found.num_agents, found.role_exchange_period) == (2, None)
    assert (found.kl_placement, found.kl_coef) == ("reward", 0.5)
    assert found.model_name_or_path == "somewhere"
    assert translated(RLOOConfig, whiten_advantages=True).whiten_advantages is True


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_they_are_options_of_a_command(kind: Any) -> None:
    """Prevents a crash in argparse, alone and beside a script's own options."""

    @dataclass
    class Script:
        dataset_name: str | None = None
        model_name_or_path: str | None = None
        reward_funcs: list[str] | None = None

    words = ["--output_dir", "o", "--use_cpu", "--num_agents", "3", "--dataset_name", "d"]
    words += ["--no_gradient_checkpointing", "--observer_template", "{references} {query}"]
    script, args = HfArgumentParser((Script, kind)).parse_args_into_dataclasses(words)
    found = translate(args, 10).settings
    assert script.dataset_name == "d"
    assert (found.num_agents, found.gradient_checkpointing) == (3, False)
    assert found.observer_template == "{references} {query}"


def test_they_can_be_changed_and_extended() -> None:
    """Prevents a frozen configuration, and a subclass that loses its own fields."""

    @dataclass
    class Extended(GRPOConfig):
        system_prompt: str | None = None

    args: Any = Extended("runs/trl", use_cpu=True, system_prompt="s", dataset_name="d")
    args.learning_rate = 0.5
    copy = dataclasses.replace(args, num_agents=2)
    assert (copy.system_prompt, translate(copy, 10).settings.learning_rate) == ("s", 0.5)
    assert translate(args, 10).settings.dataset_name == "d"


def test_a_vllm_server_is_asked_for() -> None:
    """Prevents a server that was started and is never used."""
    found = translated(use_vllm=True, vllm_mode="server", vllm_server_port=8100)
    assert found.vllm_server_base_url == "http://localhost:8100"


def test_generation_kwargs_win_over_the_arguments() -> None:
    """Prevents a filter that TRL would have applied, and one of beams that is refused."""
    given = {"do_sample": True, "top_k": 50, "length_penalty": -0.1, "stop_strings": "\n"}
    found = translated(generation_kwargs=given, top_k=7, top_p=0.9)
    assert (found.top_k, found.top_p, found.stop_strings) == (50, 0.9, ["\n"])
