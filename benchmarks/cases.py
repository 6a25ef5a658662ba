"""What is measured: shapes of models, and cases, one process each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

LEARNING_RATE = 1.41e-5
KL_COEF = 0.05
VALUE_COEF = 0.1
SEED = 0


@dataclass(frozen=True)
class Shape:
    """The shape of a language model with random weights.

    `inner` is the width of its MLPs; `key_heads` how many heads keys and values have, None: as many
    as queries. With `tied` the head is the embedding, as it always is in GPT-2.
    """

    architecture: Literal["gpt2", "llama"]
    layers: int
    width: int
    heads: int
    vocabulary: int
    inner: int
    positions: int = 1024
    key_heads: int | None = None
    tied: bool = False

    @property
    def key_width(self) -> int:
        """Numbers that a token's keys have in a layer, and its values."""
        return self.width // self.heads * (self.key_heads or self.heads)


SHAPES = {
    "tiny": Shape("gpt2", 2, 32, 2, 320, 128),
    "tiny-llama": Shape("llama", 2, 32, 2, 320, 64),
    "small": Shape("gpt2", 4, 256, 4, 8192, 1024),
    "gpt2": Shape("gpt2", 12, 768, 12, 50257, 3072),
    "smollm2": Shape("llama", 30, 576, 9, 49152, 1536, 8192, key_heads=3, tied=True),
    "gpt2-large": Shape("gpt2", 36, 1280, 20, 50257, 5120),
    "llama-2-7b": Shape("llama", 32, 4096, 32, 32000, 11008, 4096),
}


@dataclass(frozen=True)
class Case:
    """One trainer on one amount of work, measured in a process of its own.

    `steps` iterations are measured after one that warms up. `batch_size` is in answers per agent
    and iteration, each of exactly `num_tokens` tokens, to prompts of `prompt_tokens` at least and
    at most; `transfer` shows later speakers the earlier answers. `micro_batch` is in sequences per
    forward and backward pass; None: as the trainer likes. `dtype` is that of the weights, `bf16`
    asks for autocast.
    """

    name: str
    side: Literal["cory", "trl"] = "cory"
    algorithm: Literal["ppo", "grpo"] = "ppo"
    shape: str = "small"
    num_agents: int = 1
    transfer: bool = True
    batch_size: int = 256
    prompt_tokens: tuple[int, int] = (2, 8)
    num_tokens: int = 16
    num_epochs: int = 4
    num_generations: int = 1
    micro_batch: int | None = None
    adapters: bool = False
    load_in_4bit: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    bf16: bool = False
    device: str = "cpu"
    threads: int = 1
    steps: int = 2

    @property
    def num_prompts(self) -> int:
        """Distinct prompts, the same in every iteration."""
        return self.batch_size // self.num_generations

    @property
    def answer_tokens(self) -> int:
        """Tokens that an iteration must sample."""
        return self.num_agents * self.batch_size * self.num_tokens

    @property
    def optimizer_steps(self) -> int:
        """Optimizer steps that an iteration must take."""
        return self.num_agents * self.num_epochs

    @property
    def passes_per_epoch(self) -> int:
        """Forward passes that an epoch of learning costs; see `benchmarks.floor`."""
        return 2 if self.adapters else 3

    @property
    def work(self) -> dict[str, Any]:
        """What must be equal for two cases to be compared."""
        settings = asdict(self)
        own = ("name", "side", "micro_batch", "steps")
        return {key: value for key, value in settings.items() if key not in own}

    def replace(self, **changes: Any) -> Case:
        """A copy with some fields changed."""
        return replace(self, **changes)


def write_case(case: Case, path: Path) -> None:
    """Write a case for the process that measures it."""
    path.write_text(json.dumps(asdict(case), indent=2))


def read_case(path: Path) -> Case:
    """The case of this process."""
    settings = json.loads(path.read_text())
    return Case(**{**settings, "prompt_tokens": tuple(settings["prompt_tokens"])})
