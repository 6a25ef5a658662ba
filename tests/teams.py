"""Small teams on the tiny models, built as a run builds them, for the tests of several rooms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from cory.config import CORYConfig
from cory.models.loading import load_model
from cory.models.policy import LanguageModel, Policy
from cory.training.setup import RunComponents, UserObjects, build_components

# Ragged, and one holds GPT-2's pad token as text: padding must be known by the masks alone.
QUERIES = (
    "It",
    "This film is a quiet wonder",
    "A dull<|endoftext|> plot, wooden acting,",
    "Question: Anna has 12 apples and buys 30 more. How many apples does she have?",
    "Not the worst",
    "I loved every minute of it, and",
)
END_IDS = tuple(range(3, 43))
"""Token ids that end an answer of a team here, beside EOS: an untrained model rarely emits EOS."""
ADAPTERS = {"use_peft": True, "lora_r": 4}
TEMPLATES = {
    "observer_template": "Better than {references}: {query}",
    "reference_template": '"{query}{answer}" ',
}


def length_reward(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(completion)) for completion in completions]


def make_args(model: Path | None = None, **settings: Any) -> CORYConfig:
    defaults = {
        "model_name_or_path": None if model is None else str(model),
        "batch_size": len(QUERIES),
        "max_completion_length": 8,
        "use_cpu": True,
        **TEMPLATES,
    }
    return CORYConfig(**defaults | settings)


def make_team(
    model: Path,
    reward_funcs: Any = length_reward,
    queries: Sequence[Any] = QUERIES,
    **settings: Any,
) -> RunComponents:
    """A components whose answers end at any of END_IDS, so that they are ragged."""
    args = make_args(model, **settings)
    loaded = load_model(str(model), args)
    eos = loaded.config.eos_token_id
    loaded.generation_config.eos_token_id = [eos, *END_IDS]
    dataset = Dataset.from_dict({"prompt": list(queries), "number": list(range(len(queries)))})
    user = UserObjects(model=loaded, reward_funcs=reward_funcs, train_dataset=dataset)
    return build_components(args, user)


def rows_of(team: RunComponents) -> list[dict[str, Any]]:
    return list(team.train_dataset)


@torch.no_grad()
def disturb(policy: Policy, seed: int, size: float = 0.1) -> None:
    """Move a policy away from the initial model, its value head too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.trainable_parameters():
        parameter += size * torch.randn(parameter.shape, generator=generator).to(parameter)


@torch.no_grad()
def plain_logits(model: LanguageModel, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """Logits (T, V) of a response by transformers alone: one sequence, no padding, no mask."""
    with model.activate():
        logits = model.model(input_ids=torch.tensor([[*prompt, *response]])).logits[0]
    return logits[len(prompt) - 1 : -1].float()
