"""Iterations of `cory`: a team, PPO, or GRPO."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from datasets import Dataset

from benchmarks.cases import KL_COEF, LEARNING_RATE, SEED, VALUE_COEF, Case
from benchmarks.measurement import Measurement
from benchmarks.workers.common import Work, run_worker
from cory import CORYConfig, CORYTrainer
from cory.team.types import Iteration
from cory.training import query_checks

ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo": {"advantage_estimator": "gae", "kl_estimator": "k1", "kl_placement": "reward"},
    # As TRL's GRPO: the group's mean and deviation, and k3 in the loss.
    "grpo": {"advantage_estimator": "group", "kl_estimator": "k3", "kl_placement": "loss"},
}
TEMPLATES = {
    "observer_template": "I can make this sentence {references} more positive: {query}",
    "reference_template": '"{query}{answer}"',
}


def settings(case: Case, language_model: str) -> CORYConfig:
    """The case as settings of `cory`."""
    return CORYConfig(
        model_name_or_path=language_model,
        output_dir=f"{language_model}-run",
        seed=SEED,
        num_agents=case.num_agents,
        knowledge_transfer=case.transfer,
        batch_size=case.batch_size,
        num_generations=case.num_generations,
        max_completion_length=case.num_tokens,
        num_ppo_epochs=case.num_epochs,
        per_device_train_batch_size=case.micro_batch,
        learning_rate=LEARNING_RATE,
        kl_coef=KL_COEF,
        vf_coef=VALUE_COEF,
        use_peft=case.adapters,
        load_in_4bit=case.load_in_4bit,
        dtype=case.dtype,
        bf16=case.bf16,
        use_cpu=case.device == "cpu",
        max_steps=case.steps + 1,
        log_samples_steps=None,
        **TEMPLATES,
        **ALGORITHMS[case.algorithm],
    )


def measure(work: Work) -> Measurement:
    """Run the iterations of the case."""
    # A user's mistake: here it makes all answers equally long (benchmarks/files.py).
    with patch.object(query_checks, "check_vocabulary"):
        trainer = CORYTrainer(
            args=settings(work.case, work.language_model),
            reward_funcs=work.reward(),
            train_dataset=Dataset.from_dict({"prompt": work.prompts}),
            processing_class=work.tokenizer(),
        )
    run = trainer.rollout.run

    def counted_run(rows: Sequence[dict[str, Any]], step: int) -> Iteration:
        with work.meter.phase("score"):
            iteration = run(rows, step)
        for generation in (record.generation for record in iteration.records):
            work.saw(sum(map(len, generation.response_ids)), sum(map(len, generation.prompt_ids)))
        return iteration

    trainer.rollout.run = counted_run
    for name in ("generate", "generate_each"):
        work.meter.watch(trainer.rollout.sampler, name, "generate")
    for agent in trainer.agents:
        work.meter.watch(agent, "update", "update")
    work.meter.start()
    for step in range(work.case.steps + 1):
        trainer.iterate(step)
        work.lap()
    return work.measurement("cory")


if __name__ == "__main__":
    # Random weights say nothing that would be worth a warning.
    warnings.simplefilter("ignore")
    run_worker(measure, sys.argv[1:])
