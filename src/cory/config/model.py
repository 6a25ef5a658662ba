"""Settings: the initial model, and what of it each agent owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The initial model, and what of it each agent owns."""

    model_name_or_path: str | None = None
    """Hub name or local directory of a causal language model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights."""
    attn_implementation: str | None = None
    """Attention of transformers: sdpa, eager, flash_attention_2 … None: its own choice."""
    trust_remote_code: bool = False
    """Run code that comes with a model or a reward model. Not taken from a run directory: whoever
    looks at a run says it again."""
    use_peft: bool = False
    """True: one LoRA adapter per agent on one shared frozen base. False: full copies."""
    lora_r: int = 16
    """Rank of an adapter."""
    lora_alpha: int = 32
    """Scale of an adapter, divided by its rank."""
    lora_target_modules: list[str] | None = None
    """Modules that get an adapter. None: all linear layers but the head."""
    load_in_4bit: bool = False
    """Quantise the shared base to 4-bit NF4 with bitsandbytes. Needs `use_peft`."""
