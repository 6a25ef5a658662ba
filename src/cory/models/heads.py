"""What architectures do between hidden states and logits."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

LOGIT_SETTINGS = ("logit_scale", "logits_scaling", "final_logit_softcapping")
"""What `postprocess_logits` reads of a model's settings."""


def postprocess_logits(model: PreTrainedModel, logits: Tensor) -> Tensor:
    """What an architecture does to its head's output: scale (Cohere, Granite) or cap it (Gemma)."""
    config = model.config.get_text_config()
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = (logits / cap).tanh() * cap
    return logits


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether logits are one matrix times hidden states: no bias, adapter, shard, scale or cap."""
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    return (
        type(head) is nn.Linear
        and head.bias is None
        and type(head.weight.data) is Tensor
        and all(getattr(config, name, None) is None for name in LOGIT_SETTINGS)
    )
