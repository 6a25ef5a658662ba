"""Settings: the initial model, and which weights each agent owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cory.config.fields import POSITIVE, setting


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The initial model, and which weights each agent owns."""

    model_name_or_path: str | None = setting(None)
    """Hub name or local directory of a causal language model."""
    dtype: Literal["float32", "bfloat16", "float16"] = setting("float32")
    """Number format of the weights."""
    attn_implementation: str | None = setting(None)
    """Attention implementation of transformers: sdpa, eager, flash_attention_2 … None: the default
    of transformers."""
    trust_remote_code: bool = setting(False, read_from_run=False)
    """Run Python code that comes with a model or a reward model. It is never read from a run
    directory: give it again to evaluate or use such a run."""
    use_peft: bool = setting(False)
    """True: each agent is a LoRA adapter on one shared frozen base. False: each agent is a full
    copy of the model."""
    lora_r: int = setting(16, POSITIVE)
    """Rank of an adapter."""
    lora_alpha: int = setting(32)
    """Scale of an adapter; it is divided by the rank."""
    lora_target_modules: list[str] | None = setting(None)
    """Modules that get an adapter. None: all linear layers except the output layer."""
    load_in_4bit: bool = setting(False)
    """Quantize the shared base to 4-bit NF4 with bitsandbytes. Needs `use_peft`."""
