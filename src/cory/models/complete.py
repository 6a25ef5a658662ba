"""Models that are whole: files can be read, and every weight is there, fits, and is used."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import safe_open
from transformers import PreTrainedConfig, PreTrainedModel

MOST_PER_WEIGHT = 16
"""Weights that a stored number stands for, at most: 4 bits may lie in integers of 32."""
SETTINGS = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors.index.json",
)
"""Files of a model that hold JSON objects."""


def check_json_objects(directory: str | Path) -> None:
    """Refuse settings of a model that are no JSON objects; a name on the Hub is no directory.

    Raises:
        ValueError: names the file and what it holds.
    """
    for name in SETTINGS:
        path = Path(directory) / name
        text = path.read_text("utf-8", "replace") if path.is_file() else "{}"
        try:
            is_object = isinstance(json.loads(text), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise ValueError(
                f"{name} must hold a JSON object, not {reprlib.repr(text)}: fetch or save it again"
            )


def check_size(directory: Path, config: PreTrainedConfig) -> None:
    """Refuse settings of a model far larger than its weights, before memory is asked for.

    Args:
        directory: of a model; where it holds no safetensors nothing is checked.
        config: its settings.

    Raises:
        ValueError: names a setting, or weights that are integers.
    """
    sizes: dict[str, int] = {}
    for path in sorted(directory.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                sizes[name] = prod(part.get_shape())
                is_whole = part.get_dtype().startswith(("I", "U")) and name.endswith(".weight")
                if is_whole and getattr(config, "quantization_config", None) is None:
                    raise ValueError(
                        f"its {name} holds integers, and its config.json has no "
                        "quantization_config that says what they stand for: save it again"
                    )
    text = config.get_text_config()
    width = getattr(text, "hidden_size", None)
    for option in ("num_hidden_layers", "intermediate_size", "vocab_size") if sizes else ():
        value = getattr(text, option, None)
        if not isinstance(value, int) or not isinstance(width, int):
            continue
        has_layers = value > 0 or option != "num_hidden_layers"
        if not has_layers or value * width > MOST_PER_WEIGHT * sum(sizes.values()):
            raise ValueError(
                f"its config.json has {option}={value} and hidden_size={width}, but its weights "
                f"are {sum(sizes.values())} numbers in all: use the config.json of these weights"
            )


def check_complete(report: Mapping[str, Any], own: Iterable[str]) -> None:
    """Refuse a checkpoint that lacks weights, has some of another shape, or more layers.

    What is left of other heads is no fault.

    Args:
        report: of transformers, which leaves out weights that are tied to others.
        own: names of the model's weights.

    Raises:
        ValueError: names weights.
    """
    missing, misfits = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    if misfits:
        name, before, now = misfits[0]
        raise ValueError(
            f"its checkpoint has {name} as {tuple(before)}, and the model wants {tuple(now)}: "
            "use the config.json that belongs to the weights"
        )
    if missing:
        raise ValueError(
            f"its checkpoint lacks {len(missing)} weights, which would be random: "
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. Use a complete checkpoint"
        )
    places = {_place(name) for name in own}
    if unused := sorted(name for name in report["unexpected_keys"] if _place(name) in places):
        raise ValueError(
            f"its checkpoint has {unused[0]}, for which the model of its config.json has no place, "
            "so it would compute something else: use the config.json that belongs to the weights"
        )


def _place(name: str) -> str:
    """The module of a weight, whatever the number of its layer."""
    return re.sub(r"\d+", "#", name.rpartition(".")[0])


def check_object(model: Any) -> PreTrainedModel | PeftModel:
    """The model that a user passed, once it is one that agents can start from.

    Raises:
        ValueError: it is of another kind, without weights, or has adapters that do not act as
            one.
    """
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if not isinstance(model, PreTrainedModel | PeftModel):
        raise ValueError(
            f"model is {type(model).__name__}, of which no language model can be made: pass a "
            "name, a PreTrainedModel such as AutoModelForCausalLM loads, or a PeftModel"
        )
    if empty := [name for name, weight in model.named_parameters() if weight.is_meta]:
        raise ValueError(
            f"the model has no values for {empty[0]}, which is on the device meta: load it with "
            "from_pretrained, without a device_map that leaves weights out"
        )
    if isinstance(model, PreTrainedModel) and getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "the model has an adapter from its own add_adapter, which no checkpoint would hold: "
            "pass get_peft_model(model, config), or PeftModel.from_pretrained(model, directory)"
        )
    return model
