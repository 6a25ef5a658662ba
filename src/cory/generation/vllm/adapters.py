"""Adapters on their way to a server: written, loaded, and unloaded when there is a newer version.

An adapter is served as an adapter, never merged: a base that takes updates in and out again drifts
by a rounding error each time. Its name there holds a digest of its weights, so that a name stands
for one set of numbers for ever: no answer and no cached prefix of an older version can be taken for
one of the newer, and loading twice, after a restart of either side, is loading once.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from cory.generation.vllm.server import Server
from cory.models.adapter_kinds import beyond_plain_lora
from cory.models.weights import Adapter

DIGITS = 16


class ServedAdapters:
    """The newest version of each adapter, as the server has it.

    Args:
        server: to load them.
        directory: through which they go; the server must see it under the same path.
    """

    def __init__(self, server: Server, directory: Path) -> None:
        self.server = server
        self.directory = directory.resolve()
        # Two runs may share a server, but not a directory.
        self.run = hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]
        self.newest: dict[str, str] = {}

    def publish(self, adapter: Adapter) -> str:
        """Have the server answer with these weights; the name under which it does.

        Raises:
            NoAnswerError: the server is down.
            ValueError: it cannot serve them.
        """
        versions = f"{adapter.name}-{self.run}-"
        name = f"{versions}{digest(adapter)}"
        if self.newest.get(adapter.name) == name:
            return name
        served = self.server.models()
        if name not in served:
            self.server.load_adapter(name, str(self._write(adapter, name)))
        self.newest[adapter.name] = name
        for old in served:
            if old.startswith(versions) and old != name:
                self.server.unload_adapter(old)
        for path in self.directory.glob(f"{versions}*"):
            if path.name != name:
                shutil.rmtree(path)
        return name

    def forget(self) -> None:
        """The server may be another one now: look again what it serves."""
        self.newest.clear()

    def _write(self, adapter: Adapter, name: str) -> Path:
        """The adapter's directory, complete or not there at all."""
        path = self.directory / name
        if not path.exists():
            partial = self.directory / f".{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            adapter.save(partial / adapter.name)
            (partial / adapter.name).rename(path)
            shutil.rmtree(partial)
        return path


def digest(adapter: Adapter) -> str:
    """Signs that differ for adapters that compute differently."""
    config = cast(LoraConfig, adapter.peft_model.peft_config[adapter.name])
    scale = [config.r, config.lora_alpha, config.use_rslora]
    patterns = [config.rank_pattern, config.alpha_pattern]
    numbers = hashlib.sha256(repr([scale, patterns]).encode())
    weights = get_peft_model_state_dict(
        adapter.peft_model, adapter_name=adapter.name, save_embedding_layers=False
    )
    for key, tensor in sorted(weights.items()):
        numbers.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        numbers.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return numbers.hexdigest()[:DIGITS]


def check_servable(adapter: Adapter) -> None:
    """Refuse adapters that vLLM would serve as something else, or not at all.

    Raises:
        ValueError: the adapter is not plain LoRA.
    """
    if beyond := beyond_plain_lora(adapter.peft_model, adapter.name):
        raise ValueError(
            f"vLLM serves plain LoRA, not adapters with {beyond}: use plain LoRA, or leave "
            "vllm_server_base_url away"
        )
