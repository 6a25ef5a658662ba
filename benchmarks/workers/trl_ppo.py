"""Iterations of TRL 0.11.4's PPOTrainer, the last of its kind, in an environment of its own.

It samples all prompts at once; an epoch is one optimizer step, accumulated over micro-batches.
"""

from __future__ import annotations

import sys
import warnings

import torch
from transformers import AutoModelForCausalLM
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer

from benchmarks.cases import KL_COEF, LEARNING_RATE, SEED, VALUE_COEF
from benchmarks.measurement import Measurement
from benchmarks.workers.common import Work, run_worker


def make_trainer(work: Work) -> PPOTrainer:
    """The case as TRL knows it."""
    case = work.case
    micro_batch = case.micro_batch or case.batch_size
    config = PPOConfig(
        seed=SEED,
        learning_rate=LEARNING_RATE,
        batch_size=case.batch_size,
        mini_batch_size=micro_batch,
        gradient_accumulation_steps=case.batch_size // micro_batch,
        ppo_epochs=case.num_epochs,
        kl_penalty="kl",
        adap_kl_ctrl=False,
        init_kl_coef=KL_COEF,
        vf_coef=VALUE_COEF,
        max_grad_norm=1.0,
    )
    model, reference = (
        AutoModelForCausalLMWithValueHead.from_pretrained(
            AutoModelForCausalLM.from_pretrained(work.language_model, torch_dtype=torch.float32)
        )
        for _ in range(2)
    )
    return PPOTrainer(config, model, reference, work.tokenizer())


def watch(work: Work, trainer: PPOTrainer) -> None:
    """A forward pass without gradients scores; all the rest of a step learns."""
    forward = trainer.batched_forward_pass
    scoring = work.meter.timed(forward, "score")
    trainer.batched_forward_pass = lambda *args, **kwargs: (
        forward if torch.is_grad_enabled() else scoring
    )(*args, **kwargs)
    work.meter.watch(trainer, "step", "update")
    work.meter.watch(trainer, "generate", "generate")


def measure(work: Work) -> Measurement:
    """Run the iterations of the case."""
    trainer, reward, tokenizer = make_trainer(work), work.reward(), work.tokenizer()
    watch(work, trainer)
    prompts = work.prompts
    work.meter.start()
    for _ in range(work.case.steps + 1):
        queries = [torch.tensor(tokenizer(prompt)["input_ids"]) for prompt in prompts]
        answers = trainer.generate(
            queries,
            batch_size=len(queries),
            return_prompt=False,
            max_new_tokens=work.case.num_tokens,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        completions = tokenizer.batch_decode(answers, skip_special_tokens=True)
        rewards = [torch.tensor(value) for value in reward(prompts, completions)]
        trainer.step(queries, answers, rewards)
        work.saw(sum(map(len, answers)), sum(map(len, queries)))
        work.lap()
    return work.measurement("trl")


if __name__ == "__main__":
    # An old release in a new world: its deprecations are known.
    warnings.simplefilter("ignore")
    run_worker(measure, sys.argv[1:])
