"""Tokenizer, number format and model must fit together before the first iteration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from cory.training.optimizer import make_optimizer
from cory.training.setup import RunComponents, UserObjects, build_components
from tests.tiny_runs import settings, share_of_letters

Change = Callable[[PreTrainedTokenizerFast, PreTrainedModel], object]


def built(
    model: Path, tmp_path: Path, change: Change, prompts: list[str], **options: Any
) -> RunComponents:
    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model)
    change(tokenizer, loaded)
    user = UserObjects(
        model=loaded,
        processing_class=tokenizer,
        reward_funcs=share_of_letters,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
    )
    return build_components(settings(model, tmp_path, **options), user)


PROMPTS = ["The film", "It was"]
LATE = [*["The film"] * 30, "It was <think> good"]


def added(*tokens: str, **special: str) -> Change:
    def change(tokenizer: PreTrainedTokenizerFast, _: PreTrainedModel) -> None:
        tokenizer.add_tokens(list(tokens))
        tokenizer.add_special_tokens(special)

    return change


def ends_at(token: int) -> Change:
    return lambda _, model: setattr(model.generation_config, "eos_token_id", [1, token])


MISFITS: dict[str, tuple[Change, list[str], dict[str, str], str]] = {
    "pad": (added(pad_token="<pad>"), PROMPTS, {}, r"token 300, '<pad>', is its pad_token.* 300 t"),
    "eos": (added(eos_token="<end>"), PROMPTS, {}, r"'<end>', is its eos_token"),
    "bos": (added(bos_token="<s>"), PROMPTS, {}, r"'<s>', is its bos_token"),
    "late": (added("<think>"), LATE, {}, r"'<think>', is in the prompt of query 30"),
    "template": (
        added("<think>"),
        PROMPTS,
        {"query_template": "<think>{query}", "observer_template": "{references} {query}"},
        r"'<think>', is in the prompt of query 0",
    ),
    "observer": (
        added("<think>"),
        PROMPTS,
        {"observer_template": "<think> {references} {query}"},
        r"'<think>', is in the prompt of query 0",
    ),
    "end": (ends_at(5000), PROMPTS, {}, r"token 5000, None, is a token that ends an answer"),
    "foreign": (
        lambda _, model: model.resize_token_embeddings(64),
        PROMPTS,
        {},
        r"embeddings for 64 tokens only: use the model's own tokenizer",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_tokens_without_an_embedding_are_refused(
    tiny_gpt2_dir: Path, tmp_path: Path, misfit: str
) -> None:
    """Prevents an IndexError in the iteration that draws such a row."""
    change, prompts, options, message = MISFITS[misfit]
    with pytest.raises(ValueError, match=message):
        built(tiny_gpt2_dir, tmp_path, change, prompts, **options)


def test_tokens_that_nobody_uses_are_no_fault(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the refusal of Gemma 3, whose tokenizer has an image token more than the model."""
    built(tiny_gpt2_dir, tmp_path, added("<image>"), PROMPTS)

    def resized(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
        model.resize_token_embeddings(len(tokenizer))

    built(tiny_gpt2_dir, tmp_path, resized, PROMPTS)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_not_trained(tiny_gpt2_dir: Path, tmp_path: Path, dtype: str) -> None:
    """Prevents weights that move by 12.8 in five steps of 1e-5 (float16), or hardly at all."""

    def rounded(_: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
        model.to(dtype=getattr(torch, dtype))

    full = built(tiny_gpt2_dir, tmp_path, rounded, PROMPTS)
    with pytest.raises(ValueError, match=rf"weights in {dtype} .*dtype='float32'.*use_peft=True"):
        make_optimizer(full.policies, full.args)
    adapters = built(tiny_gpt2_dir, tmp_path, rounded, PROMPTS, use_peft=True, lora_r=4)
    make_optimizer(adapters.policies, adapters.args)


def test_a_mean_that_nobody_can_write_is_refused(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents a run that is lost in its evaluation, after all of its training."""
    options: dict[str, Any] = {"use_peft": True, "lora_r": 4, "evaluate_merged": True}
    built(tiny_llama_dir, tmp_path, added(), PROMPTS, **options)
    args = settings(tiny_llama_dir, tmp_path, evaluate_merged=True)
    user = UserObjects(
        reward_funcs=share_of_letters,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        peft_config=LoraConfig(target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM"),
    )
    with pytest.raises(ValueError, match="have no exact mean"):
        build_components(args, user)
