"""Randomness as a function of seed, purpose and step: nothing to save, nothing to lose."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that is independent for every purpose."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def derive_generator(
    seed: int, *purpose: str | int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator seeded by `derive_seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *purpose))


def seed_global_generators(seed: int) -> None:
    """Seed what others draw from: initial adapters of peft, a user's reward functions."""
    random.seed(derive_seed(seed, "python"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)
    torch.manual_seed(derive_seed(seed, "torch"))


@contextmanager
def preserved_global_generators() -> Iterator[None]:
    """Let the code inside draw from the global generators without a trace of it outside."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def global_random_state() -> dict[str, Any]:
    """State of the global generators, which reward functions may draw from; JSON values."""
    version, internal, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
    }


def restore_global_random_state(state: dict[str, Any]) -> None:
    """Put the global generators back to what `global_random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
