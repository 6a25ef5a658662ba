"""Try every causal language model of the installed transformers, and write what came of it.

`python -m scripts.docs.architectures` builds each architecture with a few thousand random weights,
probes it as `cory train` does at its start, and writes docs/reference/architectures.md. With
names, it prints what comes of these, and writes nothing.
"""

from __future__ import annotations

import argparse
import copy
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cory.generation.probe import ModelRefusedError, probe_models
from cory.models.policy import LanguageModel, Policy
from cory.models.weights import FullCopy

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "architectures.md"
CONTEXT_LENGTH = 64
LARGEST = 2**24
"""Weights of a model that is still tiny."""
TOKENS = range(50, 110)
"""A text, none of it special."""
SIZES: dict[str, Any] = {
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "dim", "embed_dim"], 32),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "d_ff", "n_inner"], 64),
    **dict.fromkeys(["decoder_ffn_dim", "encoder_ffn_dim", "dff"], 64),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers", "num_layers"], 2),
    **dict.fromkeys(["encoder_layers", "decoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads"], 4),
    **dict.fromkeys(["decoder_attention_heads", "encoder_attention_heads"], 4),
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts"], 4),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx"], CONTEXT_LENGTH),
    **dict.fromkeys(["initializer_range", "init_std"], 0.2),
    "vocab_size": 128,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "sliding_window": 5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Settings of a tiny model, where an architecture has them."""
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
}
HYBRID = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
ROTARY = {"rotary_dim": 4}
LAYERS = {"num_hidden_layers": 4}
MIXED = {"layer_types": ["linear_attention", "full_attention"]}
OWN_SIZES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["axk1", "axk2", "deepseek_v2", "deepseek_v3", "glm4_moe_lite"], LATENT),
    **dict.fromkeys(["minicpm3", "longcat_flash", "youtu"], LATENT),
    "bamba": HYBRID | {"attn_layer_indices": [1], "attn_rotary_emb": 4},
    "falcon_h1": HYBRID | {"mamba_d_ssm": 64},
    "granitemoehybrid": HYBRID | {"layer_types": ["mamba", "attention"]},
    **dict.fromkeys(["bailing_hybrid", "lfm3", "minimax"], LAYERS),
    "recurrent_gemma": LAYERS,
    **dict.fromkeys(["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text"], MIXED),
    **dict.fromkeys(["codegen", "gptj"], ROTARY),
    "electra": {"embedding_size": 32},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 5},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "kimi_linear": MIXED | {"num_key_value_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": (8, 24), "axial_pos_shape": (8, 8)},
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}
"""Settings that must fit each other in some architectures."""
INTRODUCTION = """\
Every run begins with a probe: prompts of different length are answered and scored as the run will
do it, and the log-probabilities are compared with a plain pass of the model, without cache or
padding. Which of the causal language models of transformers {version} pass is below, each built
tiny with random weights. What is refused ends `cory train` at its start, in one message.

| outcome | meaning |
|---|---|
| driven | equal to a plain pass, and the last MLP works on answers only |
| driven, whole | equal to a plain pass; the last MLP works on prompts too |
| refused | what differs from a plain pass, or the error that ended the probe |

An architecture that is not listed, or that comes with code of its own, is probed all the same."""


@dataclass(frozen=True)
class Outcome:
    """What came of an architecture; `is_built` is False where it could not be tried."""

    model_type: str
    model_class: str
    text: str
    is_built: bool = True


def tiny_config(model_type: str) -> PreTrainedConfig:
    """An architecture's settings at a size that takes milliseconds; errors of its own."""
    kind = CONFIG_MAPPING[model_type]
    usual = kind().to_dict()
    known = usual.keys() | getattr(kind, "attribute_map", {}).keys()
    sizes = {name: size for name, size in SIZES.items() if name in known}
    if usual.get("sliding_window") is None:
        sizes.pop("sliding_window", None)
    return kind(**sizes | OWN_SIZES.get(model_type, {}))


def tiny_model(model_type: str) -> PreTrainedModel:
    """A model with random weights, the same at every call.

    Raises:
        ValueError: it is not tiny.
    """
    config = tiny_config(model_type)
    with torch.device("meta"):
        size = sum(w.numel() for w in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} weights: its parts have sizes of their own")
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def outcome_of(model_type: str) -> Outcome:
    """Build an architecture and probe it."""
    try:
        model = tiny_model(model_type)
    except Exception as error:  # noqa: BLE001  settings of strangers' code
        reason = " ".join(str(error).split())
        return Outcome(model_type, "", f"{type(error).__name__}: {reason[:90]}", is_built=False)
    policy = Policy(FullCopy(copy.deepcopy(model)))
    try:
        probe_models([policy], LanguageModel(model), list(TOKENS), CONTEXT_LENGTH)
    except ModelRefusedError as error:
        return Outcome(model_type, type(model).__name__, f"refused: {_reason(str(error))}")
    text = "driven" if policy.narrows_last_mlp else "driven, whole"
    return Outcome(model_type, type(model).__name__, text)


WAYS = {
    "by its body": "its head does more than one product",
    "sampled with": "sampling with cache and padding",
    "scored with": "scoring with padding",
}
"""Where a model differs from a plain pass, in few words."""


def _reason(message: str) -> str:
    """What a refusal says, in few words."""
    if "ended in " in message:
        return message.partition("ended in ")[2].partition(":")[0]
    return next((words for way, words in WAYS.items() if way in message), message[:90])


def page(outcomes: Iterable[Outcome]) -> str:
    """The page of the documentation."""
    listed = list(outcomes)
    built = [outcome for outcome in listed if outcome.is_built]
    num_driven = sum(outcome.text.startswith("driven") for outcome in built)
    lines = [
        "# Architectures",
        "",
        "<!-- Made by `python -m scripts.docs.architectures`. Change the script, not this. -->",
        "",
        INTRODUCTION.format(version=transformers.__version__),
        "",
        f"Of {len(built)} architectures, {num_driven} are driven.",
        "",
        "| `model_type` | class | outcome |",
        "|---|---|---|",
        *(f"| `{one.model_type}` | `{one.model_class}` | {one.text} |" for one in built),
        "",
        "## Not tried",
        "",
        "These could not be built tiny from their settings alone: composite models, or settings",
        "that must fit each other. The probe decides when a run begins.",
        "",
        "| `model_type` | what was in the way |",
        "|---|---|",
        *(f"| `{one.model_type}` | {_cell(one.text)} |" for one in listed if not one.is_built),
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def causal_architectures() -> list[str]:
    """Names of all architectures with a causal language model."""
    return sorted(name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in CONFIG_MAPPING)


def main() -> None:
    """Write the page, or print what comes of some architectures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model_types", nargs="*", help="print what comes of these")
    names = parser.parse_args().model_types
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    outcomes = map(outcome_of, names or causal_architectures())
    if names:
        for outcome in outcomes:
            print(outcome.model_type, outcome.model_class, outcome.text)
    else:
        PAGE.write_text(page(outcomes), "utf-8")


if __name__ == "__main__":
    main()
