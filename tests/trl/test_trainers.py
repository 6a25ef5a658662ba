"""TRL's trainers on cory: what scripts, callbacks and subclasses use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from cory.trl import GRPOConfig, GRPOTrainer, PPOConfig, PPOTrainer, RLOOConfig, RLOOTrainer
from tests.tiny_runs import queries, share_of_letters

SMALL: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "disable_tqdm": True,
}
GROUPS = SMALL | {
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 4,
    "max_steps": 2,
}


def grpo(model: Any, output_dir: Path, **others: Any) -> GRPOTrainer:
    given = {
        name: others.pop(name)
        for name in ("callbacks", "eval_dataset", "peft_config")
        if name in others
    }
    args = GRPOConfig(str(output_dir), **(GROUPS | others))
    return GRPOTrainer(model, share_of_letters, args, queries(), **given)


class Listener(TrainerCallback):
    """Notes the events, and the metrics of each log."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.logs: list[dict[str, float]] = []

    def _note(self, event: str) -> Any:
        def note(args: Any, state: Any, control: Any, **details: Any) -> None:
            assert isinstance(args, GRPOConfig)
            self.events.append(event)
            if event == "on_log":
                self.logs.append(details["logs"])

        return note

    def __getattribute__(self, name: str) -> Any:
        return self._note(name) if name.startswith("on_") else super().__getattribute__(name)


def test_a_run_logs_what_trl_logs(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a history, an output or events under names that TRL's users do not know."""
    listener = Listener()
    trainer = grpo(
        str(tiny_gpt2_dir),
        tmp_path,
        callbacks=[listener],
        eval_dataset=queries(2),
        eval_strategy="steps",
        eval_steps=2,
        metric_for_best_model="reward",
    )
    output = trainer.train()
    first, *_, last = trainer.state.log_history
    assert {
        *("loss", "grad_norm", "reward", "reward_std", "kl", "entropy", "learning_rate", "epoch"),
        *("rewards/share_of_letters/mean", "completions/mean_length", "num_tokens", "step"),
    } <= first.keys()
    assert 1 <= first["completions/mean_length"] <= 4
    assert last["train_loss"] == output["train_loss"] == output.training_loss
    assert output.global_step == dict(output)["epoch"] * 5 == 2
    evaluated = [one for one in trainer.state.log_history if "eval_reward" in one]
    assert trainer.state.best_metric == max(one["eval_reward"] for one in evaluated)
    step = ["on_step_begin", "on_pre_optimizer_step", "on_optimizer_step", "on_step_end"]
    assert listener.events[:8] == [
        "on_init_end",
        "on_train_begin",
        "on_epoch_begin",
        *step,
        "on_log",
    ]
    assert listener.events[8:13] == [*step, "on_epoch_end"]
    assert {"on_prediction_step", "on_evaluate", "on_save"} <= set(listener.events)
    assert listener.events[-1] == "on_train_end"


def test_the_surface_of_a_script(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a script that trains and then cannot save, evaluate or report."""
    trainer = grpo(str(tiny_gpt2_dir), tmp_path / "run")
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    output = trainer.train()
    assert all(
        not torch.equal(one, trainer.model.get_parameter(name)) for name, one in before.items()
    )
    trainer.log_metrics("train", output.metrics)
    trainer.save_metrics("train", output.metrics)
    trainer.save_state()
    found = trainer.evaluate(eval_dataset=queries(2))
    assert 0 <= found["eval_reward"] <= 1
    with pytest.raises(ValueError, match="nothing is held out"):
        trainer.evaluate()
    trainer.save_model(str(tmp_path / "saved"))
    trainer.create_model_card(model_name="letters", tags="demo")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    name, weight = next(iter(trainer.model.named_parameters()))
    assert torch.equal(saved.get_parameter(name), weight)
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "saved").eos_token == trainer.tokenizer.eos_token
    )
    card = (tmp_path / "run" / "README.md").read_text()
    for part in ("# letters", "share_of_letters", "- grpo\n", "- demo\n"):
        assert part in card


def test_a_team_is_one_argument_away(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a second agent that trains, and is not saved."""
    trainer = grpo(str(tiny_gpt2_dir), tmp_path / "run", num_agents=2, max_steps=1)
    trainer.train()
    assert {"agent_0/reward", "agent_1/reward", "reward"} <= trainer.state.log_history[0].keys()
    trainer.save_model(str(tmp_path / "saved"))
    for directory in (tmp_path / "saved", tmp_path / "saved" / "agent_1"):
        assert AutoModelForCausalLM.from_pretrained(directory).num_parameters()


def test_a_run_is_resumed_and_never_written_over(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a second start of a script that destroys the first one's result."""
    whole = grpo(str(tiny_gpt2_dir), tmp_path / "whole", max_steps=2, lr_scheduler_type="constant")
    whole.train()
    with pytest.raises(ValueError, match="has no checkpoint"):
        grpo(str(tiny_gpt2_dir), tmp_path / "half").train(resume_from_checkpoint=True)
    half = {"lr_scheduler_type": "constant"}
    grpo(str(tiny_gpt2_dir), tmp_path / "half", max_steps=1, **half).train()
    with pytest.raises(ValueError, match=r"train\(resume_from_checkpoint=True\)"):
        grpo(str(tiny_gpt2_dir), tmp_path / "half", max_steps=2, **half).train()
    resumed = grpo(str(tiny_gpt2_dir), tmp_path / "half", max_steps=2, **half)
    resumed.train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoints" / "step-1"))
    for name, weight in whole.model.named_parameters():
        assert torch.equal(weight, resumed.model.get_parameter(name)), name


def test_a_loss_of_the_users_is_refused(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a method that is overridden and never called."""

    class Mine(GRPOTrainer):
        def compute_loss(self, *_: Any, **__: Any) -> None: ...

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log({**logs, "mine": 1.0})

    args = GRPOConfig(str(tmp_path), **GROUPS)
    with pytest.raises(ValueError, match="problems") as refusal:
        Mine(
            str(tiny_gpt2_dir),
            share_of_letters,
            args,
            queries(),
            optimizers=(object(), None),
            tools=[len],
        )
    for part in ("3 problems", "Mine.compute_loss would never be called", "optimizers", "tools"):
        assert part in str(refusal.value)
    del Mine.compute_loss
    trainer = Mine(str(tiny_gpt2_dir), share_of_letters, args, queries())
    trainer.train()
    assert trainer.state.log_history[0]["mine"] == 1.0


def test_an_adapter_is_saved_as_one(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents an adapter whose folder replaces what lies in output_dir."""
    half = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.bfloat16)
    trainer = grpo(half, tmp_path, peft_config=LoraConfig(task_type="CAUSAL_LM"), max_steps=1)
    trainer.train()
    trainer.save_model()
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert (tmp_path / "checkpoints").is_dir()


def test_half_precision_weights_are_held_in_float32(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a script with dtype=bfloat16 that is refused, or trains weights in 16 bits."""
    options = {"dtype": "bfloat16", "revision": "main", "device_map": None}
    trainer = grpo(str(tiny_gpt2_dir), tmp_path, model_init_kwargs=options)
    assert trainer.model.dtype == torch.float32
    assert trainer.core.args.bf16


def test_rloo_trains(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an RLOOTrainer without arguments of its own."""
    args = RLOOConfig(str(tmp_path), **GROUPS)
    trainer = RLOOTrainer(str(tiny_gpt2_dir), share_of_letters, args, queries())
    assert trainer.train().global_step == 2


def test_rows_come_in_their_own_order(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents shuffle_dataset=False that shuffles."""
    seen: list[str] = []

    def note(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        seen.extend(prompts[::2])
        return share_of_letters(prompts, completions)

    args = GRPOConfig(str(tmp_path), shuffle_dataset=False, **GROUPS)
    GRPOTrainer(str(tiny_gpt2_dir), note, args, queries()).train()
    assert seen == queries()["prompt"][:4]


def test_classic_ppo_trains_on_tokens(
    tiny_llama_dir: Path, tiny_classifier_dir: Path, tmp_path: Path
) -> None:
    """Prevents the PPOTrainer that TRL removed from being missed here."""
    model, other = (AutoModelForCausalLM.from_pretrained(tiny_llama_dir) for _ in range(2))
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    rows = queries(4).map(lambda row: {"input_ids": tokenizer(row["prompt"])["input_ids"]})
    rows = rows.remove_columns(["prompt", "topic"])
    args = PPOConfig(
        str(tmp_path),
        **SMALL,
        per_device_train_batch_size=4,
        total_episodes=8,
        response_length=4,
        num_ppo_epochs=1,
        missing_eos_penalty=1.0,
        eval_strategy="no",
    )
    given: dict[str, Any] = {
        "args": args,
        "processing_class": tokenizer,
        "model": model,
        "ref_model": other,
        "reward_model": None,
        "reward_funcs": str(tiny_classifier_dir),
        "value_model": other,
        "train_dataset": rows,
        "eval_dataset": rows,
    }
    trainer = PPOTrainer(**given)
    trainer.train()
    first = trainer.state.log_history[0]
    assert {"objective/kl", "objective/scores", "loss/policy_avg", "loss/value_avg"} <= first.keys()
    assert -1 <= first["rewards/missing_eos_penalty/mean"] <= 0
    trainer.generate_completions()
    torch.nn.init.zeros_(other.lm_head.weight)
    with pytest.raises(ValueError, match="ref_model has other weights"):
        PPOTrainer(**given)
