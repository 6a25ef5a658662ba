"""The model of a TRL script: how one that is named is loaded, and what number format it gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

WITHOUT_EFFECT = {"device_map", "use_cache", "low_cpu_mem_usage", "use_kernels"}
"""Arguments of `from_pretrained` that change where a model lies or how fast it is."""
FORMATS = ("float32", "bfloat16", "float16")


@dataclass
class GivenModel:
    """A model, or its name, with the settings that its arguments stand for."""

    model: str | PreTrainedModel | PeftModel | None
    settings: dict[str, Any] = field(default_factory=dict)
    quantization_config: Any = None
    notes: list[str] = field(default_factory=list)


def given_model(
    model: str | PreTrainedModel | PeftModel | None,
    args: Any,
    has_adapters: bool,
    quantization: Any,
) -> GivenModel:
    """What a trainer is given as `model`.

    Weights that are trained themselves are held in float32; what TRL would train in 16 bits is
    computed in bfloat16 instead.

    Raises:
        ValueError: `model_init_kwargs` name a number format that there is not.
    """
    found = GivenModel(model, quantization_config=quantization)
    if isinstance(model, PreTrainedModel | PeftModel):
        _take_object(found, has_adapters)
        return found
    options = dict(getattr(args, "model_init_kwargs", None) or {})
    dtype = _format(options)
    found.quantization_config = options.pop("quantization_config", None) or quantization
    found.settings = {
        name: options.pop(name)
        for name in ("attn_implementation", "trust_remote_code")
        if options.get(name) is not None
    }
    is_half = dtype in ("bfloat16", "float16")
    if is_half and not has_adapters:
        found.settings["bf16"] = True
        found.notes.append(_held_in_float32(f"dtype={dtype!r}"))
    elif dtype is not None:
        found.settings["dtype"] = dtype
    if options.get("revision") in (None, "main"):
        options.pop("revision", None)
    others = {name: options[name] for name in options.keys() - WITHOUT_EFFECT}
    if others and model is not None:
        found.model = AutoModelForCausalLM.from_pretrained(
            model,
            dtype=getattr(torch, found.settings.get("dtype", "float32")),
            quantization_config=found.quantization_config,
            **{
                name: value
                for name, value in found.settings.items()
                if name not in ("dtype", "bf16")
            },
            **others,
        )
    return found


def _format(options: dict[str, Any]) -> str | None:
    """The number format in `model_init_kwargs`; None: the default."""
    given = options.pop("torch_dtype", None)
    given = options.pop("dtype", given)
    name = str(given).removeprefix("torch.")
    if name in ("None", "auto"):
        return None
    if name not in FORMATS:
        raise ValueError(
            f"model_init_kwargs has dtype={given!r}: choose one of {', '.join(FORMATS)}"
        )
    return name


def _take_object(found: GivenModel, has_adapters: bool) -> None:
    model: Any = found.model
    is_half = model.dtype in (torch.bfloat16, torch.float16)
    is_quantized = getattr(model, "hf_quantizer", None) is not None
    if is_half and not has_adapters and not is_quantized and not isinstance(model, PeftModel):
        model.float()
        found.settings["bf16"] = True
        found.notes.append(_held_in_float32(f"the model's {model.dtype}"))


def _held_in_float32(what: str) -> str:
    return (
        f"{what}: steps would be lost in 16 bits, so the weights are held in float32 and products "
        "are computed in bfloat16"
    )
