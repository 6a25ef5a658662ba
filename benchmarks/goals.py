"""What the project asks of its speed, by what computes: a kind of processor, or a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

MachineClass = Literal["AMX", "AVX512-BF16", "plain", "H200", "GPU"]
PROCESSORS: dict[MachineClass, str] = {
    "AMX": "AMX",
    "AVX512-BF16": "AVX512-BF16, but no AMX",
    "plain": "neither AMX nor AVX512-BF16",
}


@dataclass(frozen=True)
class Goal:
    """What a number must be, and what it should become; None: nothing is asked for."""

    must: float
    aim: float | None = None


Goals = Mapping[MachineClass, Goal]


def everywhere(must: float, aim: float | None = None) -> Goals:
    """The same goal on every processor."""
    return dict.fromkeys(PROCESSORS, Goal(must, aim))


def with_bf16(must: float, aim: float | None = None) -> Goals:
    """The same goal wherever bfloat16 has instructions."""
    return {name: goal for name, goal in everywhere(must, aim).items() if name != "plain"}


def by_tiles(others: float, tiles: float, aim: float | None = None) -> Goals:
    """A goal in float32 that is another one beside AMX, where products are faster."""
    return {**everywhere(others, aim), "AMX": Goal(tiles, aim)}


def machine_class(capabilities: Mapping[str, object] | None = None) -> MachineClass:
    """The class of a processor; None: of this one."""
    found = torch.cpu.get_capabilities() if capabilities is None else capabilities
    if found.get("amx_bf16"):
        return "AMX"
    return "AVX512-BF16" if found.get("avx512_bf16") else "plain"


def gpu_class(name: str | None) -> MachineClass:
    """The class of a GPU by its name; of a CPU that stands in for one: that of any GPU."""
    return "H200" if name is not None and "H200" in name else "GPU"


def on_gpus(must: float) -> Goals:
    """The same goal on every GPU: of a share of what it can do."""
    return {"H200": Goal(must), "GPU": Goal(must)}
