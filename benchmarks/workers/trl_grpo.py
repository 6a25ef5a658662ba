"""Steps of the current TRL's GRPOTrainer."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.cases import KL_COEF, LEARNING_RATE, SEED, Case
from benchmarks.measurement import Measurement
from benchmarks.workers.common import Work, run_worker


def settings(case: Case, output_dir: str) -> GRPOConfig:
    """The case as TRL knows it; an optimizer step is one of its steps."""
    micro_batch = case.micro_batch or case.batch_size
    return GRPOConfig(
        output_dir=output_dir,
        seed=SEED,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=case.batch_size // micro_batch,
        num_generations=case.num_generations,
        max_completion_length=case.num_tokens,
        num_iterations=case.num_epochs,
        max_steps=(case.steps + 1) * case.num_epochs,
        learning_rate=LEARNING_RATE,
        beta=KL_COEF,
        gradient_checkpointing=False,
        bf16=case.bf16,
        use_cpu=case.device == "cpu",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


class Laps(TrainerCallback):
    """Ends a lap after the optimizer steps of one batch of answers."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.work.meter.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.work.case.num_epochs == 0:
            self.work.lap()


def watch(work: Work, trainer: GRPOTrainer) -> None:
    """A forward pass without gradients scores; all the rest of a step learns."""
    generate, forward = trainer._generate_single_turn, trainer._get_per_token_logps_and_entropies
    scoring = work.meter.timed(forward, "score")

    def counted_generate(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        with work.meter.phase("generate"):
            answers, *rest = generate(prompt_ids, *args, **kwargs)
        work.saw(sum(map(len, answers)), sum(map(len, prompt_ids)))
        return answers, *rest

    trainer._generate_single_turn = counted_generate
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (
        forward if torch.is_grad_enabled() else scoring
    )(*args, **kwargs)
    work.meter.watch(trainer, "training_step", "update")


def measure(work: Work) -> Measurement:
    """Run the steps of the case."""
    case = work.case
    model = AutoModelForCausalLM.from_pretrained(
        work.language_model, dtype=getattr(torch, case.dtype)
    )
    trainer = GRPOTrainer(
        model=model,
        args=settings(case, f"{work.language_model}-run"),
        reward_funcs=work.reward(),
        train_dataset=Dataset.from_dict({"prompt": work.prompts}),
        processing_class=work.tokenizer(),
        callbacks=[Laps(work)],
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        if case.adapters
        else None,
    )
    watch(work, trainer)
    trainer.train()
    return work.measurement("trl")


if __name__ == "__main__":
    # Random weights say nothing that would be worth a warning.
    warnings.simplefilter("ignore")
    run_worker(measure, sys.argv[1:])
