"""Which adapters are plain LoRA, which ones an agent can train, and which ones are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

PLAIN_LORA_OPTIONS = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "peft_type",
        "peft_version",
        "r",
        "rank_pattern",
        "revision",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
"""Options of `LoraConfig` that leave an adapter plain LoRA: two factors and a scale per layer."""
PLAIN_LORA_LAYERS = frozenset({"Linear", "LeanLinear", "Embedding", "Linear4bit", "Linear8bitLt"})
"""peft's layers of that kind, and ours, by the names of their classes."""
DRIVEN_LORA_OPTIONS = PLAIN_LORA_OPTIONS | {
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "layer_replication",
    "loftq_config",
    "lora_bias",
    "lora_ga_config",
    "modules_to_save",
    "runtime_config",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
}
"""Options whose weights each agent has for itself, and that act in every pass."""
DRIVEN_TYPES = frozenset(
    "LORA IA3 VERA LOHA LOKR OFT BOFT LN_TUNING FOURIERFT TRAINABLE_TOKENS".split()
)
"""Types of adapters that live inside the layers and that a test trains."""
OPTIONS_OF_SCALE = (
    *("peft_type", "r", "rank_pattern", "lora_alpha", "alpha", "alpha_pattern"),
    *("use_rslora", "use_dora"),
)
"""Options that change what the same weights compute."""


def beyond_plain_lora(peft_model: PeftModel, name: str) -> dict[str, Any]:
    """What an adapter has that plain LoRA has not: options with their values, and layers.

    Mixed batches, exact means and vLLM know plain LoRA only.
    """
    beyond = options_beyond(peft_model.peft_config[name], PLAIN_LORA_OPTIONS)
    layers = {
        type(layer).__name__
        for layer in peft_model.modules()
        if isinstance(layer, BaseTunerLayer)
        and not (isinstance(layer, LoraLayer) and type(layer).__name__ in PLAIN_LORA_LAYERS)
    }
    return beyond | ({"layers": sorted(layers)} if layers else {})


def options_beyond(config: PeftConfig, allowed: frozenset[str]) -> dict[str, Any]:
    """Options of LoRA that are not as peft has them by default, but for those that are allowed."""
    if type(config) is not LoraConfig:
        return {"peft_type": _kind(config)}
    usual = LoraConfig()
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {
        name: value
        for name, value in values.items()
        if name not in allowed and value != getattr(usual, name) and value not in ([], {}, set())
    }


def check_driven(config: PeftConfig) -> None:
    """Refuse adapters whose weights agents would share, or that do not act in our passes.

    Raises:
        ValueError: with the option, and what to use.
    """
    if not isinstance(config, PeftConfig):
        raise ValueError(
            f"peft_config is {type(config).__name__}: pass a configuration of peft, such as "
            "LoraConfig(r=16, task_type='CAUSAL_LM')"
        )
    if _kind(config) not in DRIVEN_TYPES:
        raise ValueError(
            f"peft_type={_kind(config)} is an adapter that cory does not train: prompt learning "
            "puts virtual tokens before the prompt, and others need calls of their own. Use LoRA, "
            f"or one of {', '.join(sorted(DRIVEN_TYPES))}"
        )
    if config.task_type not in (None, "CAUSAL_LM"):
        raise ValueError(
            f"the adapter's task_type={getattr(config.task_type, 'value', config.task_type)!r} is "
            "of another kind of model: set task_type='CAUSAL_LM'"
        )
    if getattr(config, "lora_alpha", 1) == 0:
        raise ValueError("lora_alpha=0 takes an adapter's effect away: set it to r, or 2 r")
    bias = getattr(config, "bias", "none")
    if bias != "none":
        raise ValueError(
            f"bias={bias!r} trains biases of the base, which all agents share: set bias='none'"
        )
    if type(config) is LoraConfig and (beyond := options_beyond(config, DRIVEN_LORA_OPTIONS)):
        raise ValueError(
            f"adapters with {beyond} are not trained by cory: leave these options of LoraConfig out"
        )


def check_acting(peft_model: PeftModel, wanted: PeftConfig | None) -> None:
    """Refuse a model whose own adapter is switched off, is several, or not the one asked for.

    Args:
        peft_model: that the user passed, or named.
        wanted: another configuration of adapters; None: none was given.

    Raises:
        ValueError: with what to do.
    """
    names = peft_model.active_adapters
    layers = [layer for layer in peft_model.modules() if isinstance(layer, BaseTunerLayer)]
    if len(names) != 1 or any(layer.disable_adapters for layer in layers):
        raise ValueError(
            f"the model's adapters {', '.join(names)} are several, or switched off: the initial "
            "model must have one that acts; call enable_adapter_layers() and set_adapter(NAME)"
        )
    own = peft_model.peft_config[names[0]]
    for option in ("peft_type", "r", "lora_alpha", "target_modules") if wanted else ():
        before, now = getattr(own, option, None), getattr(wanted, option, None)
        if before != now:
            raise ValueError(
                f"peft_config has {option}={now}, but the model carries an adapter already, with "
                f"{before}: leave peft_config out, or pass the model without its adapter "
                "(merge_and_unload())"
            )


def check_same_config(directory: Path, config: PeftConfig) -> None:
    """Refuse a saved adapter that computes something else, or a directory that holds none.

    Raises:
        ValueError: with both values.
    """
    if not (directory / "adapter_config.json").is_file():
        raise ValueError(
            f"{directory} holds no adapter, but this run trains adapters: resume with the "
            "use_peft, peft_config and model that it began with"
        )
    if not (directory / "adapter_model.safetensors").is_file():
        raise ValueError(f"{directory} has no adapter_model.safetensors: use a complete copy of it")
    saved = PeftConfig.from_pretrained(str(directory))
    for option in OPTIONS_OF_SCALE:
        before, now = getattr(saved, option, None), getattr(config, option, None)
        if before != now:
            raise ValueError(_another(directory, f"its {option} is {before}, and not {now}"))


def check_same_weights(
    directory: Path, saved: Mapping[str, Tensor], own: Mapping[str, Tensor], base: Mapping[str, Any]
) -> None:
    """Refuse saved weights that are not one for one those of an adapter.

    Args:
        directory: where they were saved.
        saved: by name, weights of the base possibly among them.
        own: of the adapter, by name.
        base: names of the base's weights.

    Raises:
        ValueError: names a weight.
    """
    for name in sorted(own.keys() | saved.keys()):
        if name in base:
            continue
        if name not in saved:
            raise ValueError(_another(directory, f"it has no {name}"))
        if name not in own:
            raise ValueError(_another(directory, f"it has {name}, which is not asked for"))
        before, now = tuple(saved[name].shape), tuple(own[name].shape)
        if before != now:
            raise ValueError(_another(directory, f"its {name} is {before}, and not {now}"))


def _kind(config: PeftConfig) -> str:
    return str(getattr(config.peft_type, "value", config.peft_type))


def _another(directory: Path, difference: str) -> str:
    return (
        f"{directory} does not hold this adapter: {difference}. Use the lora_r, lora_alpha, "
        "lora_target_modules or peft_config that it was trained with, and a complete copy of it"
    )
