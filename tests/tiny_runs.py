"""Tiny trainings: a data set, a reward and settings that run in a fraction of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from cory.config import CORYConfig
from cory.team.agent import Agent
from cory.training.trainer import CORYTrainer

QUERIES = (
    "The film",
    "I loved every minute of it, and",
    "What",
    "A dull plot with a",
    "Not the worst",
    "Question: what is 3 + 4?",
    "It was",
    "My money",
    "She has",
    "The second half drags because the",
)
TIME_KEYS = frozenset({"seconds/rollout", "seconds/update", "tokens_per_second", "total_seconds"})
"""Metrics that differ between two runs of the same settings."""


def queries(count: int = len(QUERIES)) -> Dataset:
    """Ragged queries with a further column, `topic`."""
    rows = [QUERIES[row % len(QUERIES)] for row in range(count)]
    return Dataset.from_dict({"prompt": rows, "topic": [len(row) for row in rows]})


def share_of_letters(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """How much of an answer is ASCII letters: bounded, and rarely equal for two answers."""
    return [
        sum(sign.isascii() and sign.isalpha() for sign in text) / max(len(text), 1)
        for text in completions
    ]


def settings(model: Path, output_dir: Path, **overrides: Any) -> CORYConfig:
    """A few answers of a few tokens, learnt at a rate that moves every weight visibly."""
    chosen: dict[str, Any] = {
        "model_name_or_path": str(model),
        "output_dir": str(output_dir),
        "observer_template": "{references} Better: {query}",
        "reference_template": '"{query}{answer}"',
        "batch_size": 8,
        "max_completion_length": 6,
        "max_steps": 2,
        "num_ppo_epochs": 2,
        "role_exchange_period": 2,
        "learning_rate": 1e-3,
        "log_samples_steps": None,
        "num_eval_queries": 4,
        "use_cpu": True,
    }
    return CORYConfig(**(chosen | overrides))


def trainer(
    model: Path,
    output_dir: Path,
    reward_funcs: Any = share_of_letters,
    callbacks: Any = (),
    eval_dataset: Any = None,
    **overrides: Any,
) -> CORYTrainer:
    """A trainer on `queries()` that has not begun."""
    return CORYTrainer(
        reward_funcs=reward_funcs,
        args=settings(model, output_dir, **overrides),
        train_dataset=queries(),
        eval_dataset=eval_dataset,
        callbacks=callbacks,
    )


def records(output_dir: Path | str) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    lines = (Path(output_dir) / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in TIME_KEYS}
        for line in lines
    ]


def snapshot(agent: Agent) -> dict[str, Tensor]:
    """Copies of all tensors that an agent owns: weights, value head, moments, moving averages."""
    tensors: dict[str, Tensor] = {}
    for index, parameter in enumerate(agent.policy.trainable_parameters()):
        tensors[f"weight/{index}"] = parameter.detach().clone()
        for name, moment in agent.optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{index}"] = moment.clone()
    if agent.elastic_reset is not None:
        for index, average in enumerate(agent.elastic_reset.average):
            tensors[f"average/{index}"] = average.clone()
    if agent.weight_average is not None:
        for index, average in enumerate(agent.weight_average.average):
            tensors[f"weight_average/{index}"] = average.clone()
    return tensors


def same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether two snapshots hold the same tensors, bit for bit."""
    return left.keys() == right.keys() and all(
        torch.equal(tensor, right[name]) for name, tensor in left.items()
    )
