"""Models that users pass as objects: one that agents can start from, or one message."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from cory.generation.probe import probe_models
from cory.models.complete import check_object
from cory.models.loading import build_policies, ensure_pad_token
from tests.teams import ADAPTERS, make_args


def loaded(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory)


def lora(**options: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | options)


def adapted(directory: Path) -> PeftModel:
    return get_peft_model(loaded(directory), lora())  # pyright: ignore[reportReturnType]


def on_meta(directory: Path) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))


def own_adapter(directory: Path) -> Any:
    model = loaded(directory)
    model.add_adapter(lora())
    return model


OBJECTS: dict[str, tuple[Any, str]] = {
    "number": (lambda _: 5, "model is int"),
    "class": (lambda _: AutoModelForCausalLM, "model is type"),
    "layers": (lambda _: nn.Sequential(nn.Linear(2, 2)), "model is Sequential"),
    "parallel": (lambda directory: nn.DataParallel(loaded(directory)), "model is DataParallel"),
    "empty": (on_meta, r"no values for model\.embed_tokens\.weight"),
    "its own adapter": (own_adapter, r"from its own add_adapter.*get_peft_model"),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_that_is_no_model_to_start_from_is_refused(
    tiny_llama_dir: Path, kind: str
) -> None:
    """Prevents an AttributeError, and checkpoints that hold an adapter without its base."""
    make, message = OBJECTS[kind]
    with pytest.raises(ValueError, match=message):
        check_object(make(tiny_llama_dir))


def test_a_compiled_model_is_the_model_itself(tiny_llama_dir: Path) -> None:
    """Prevents checkpoints whose names begin with `_orig_mod`."""
    model = loaded(tiny_llama_dir)
    assert check_object(torch.compile(model, backend="eager")) is model


def test_a_model_that_cannot_be_copied_is_refused(tiny_llama_dir: Path) -> None:
    """Prevents a TypeError about pickles; adapters need no copies."""
    model = loaded(tiny_llama_dir)
    model.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"cannot be copied for each agent: .*_thread\.lock"):
        build_policies(model, make_args())
    assert build_policies(model, make_args(**ADAPTERS))


def test_a_head_of_several_layers_is_refused(tiny_llama_dir: Path) -> None:
    """Prevents an AttributeError about `weight`."""
    model = loaded(tiny_llama_dir)
    model.lm_head = nn.Sequential(nn.Linear(32, 8), nn.Linear(8, model.config.vocab_size))
    with pytest.raises(ValueError, match=r"no head that gives logits of tokens by one matrix"):
        build_policies(model, make_args())


def test_adapters_of_the_model_must_act_as_one(tiny_llama_dir: Path) -> None:
    """Prevents training what is switched off, or one of two adapters that were on."""
    off = adapted(tiny_llama_dir)
    off.base_model.disable_adapter_layers()
    two = adapted(tiny_llama_dir)
    two.add_adapter("other", lora())
    two.base_model.set_adapter(["default", "other"])
    for model in (off, two):
        with pytest.raises(ValueError, match=r"are several, or switched off"):
            build_policies(model, make_args())


def test_a_second_adapter_is_not_left_out_without_a_word(tiny_llama_dir: Path) -> None:
    """Prevents a peft_config that has no effect; that of the adapter itself may be passed."""
    with pytest.raises(ValueError, match=r"peft_config has r=8, but the model carries .* with 4"):
        build_policies(adapted(tiny_llama_dir), make_args(), lora(r=8))
    assert build_policies(adapted(tiny_llama_dir), make_args(), lora())


def test_a_hook_of_the_head_is_not_passed_by(tiny_gpt2_dir: Path) -> None:
    """Prevents updates that compute log-probabilities with the head's weights alone."""
    model = loaded(tiny_gpt2_dir)
    model.lm_head.register_forward_hook(lambda _, __, output: output * 2)
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel is not computed right: scored"):
        probe_models(*build_policies(model, make_args()), list(range(50, 70)))


@pytest.mark.parametrize("given", ["gpt2", object()])
def test_what_is_no_tokenizer_is_refused(given: Any) -> None:
    """Prevents an AttributeError about `pad_token_id`."""
    with pytest.raises(ValueError, match=r"processing_class is (str|object), and no tokenizer"):
        ensure_pad_token(given)
