"""Weights that are spread over processes by FSDP2, and the times at which they are whole.

At rest a process holds its share of every tensor: of weights, gradients and moments. A pass gathers
one layer after the other; what is outside of the layers (embeddings, head, value head) is gathered
by `unsharded_heads`. Sampling, in which processes do different numbers of passes, needs the whole
model for that time: `unsharded`. Modules that are not sharded go through all this unchanged.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

FORWARD = "hidden_states"
"""The method of a `LanguageModel` that is its pass through the layers."""


def shard(language_model: nn.Module, num_processes: int) -> None:
    """Spread a language model over all processes, layer by layer, on the accelerator if any.

    Gradients are summed over processes in the backward pass.
    """
    is_on_cpu = torch.distributed.get_backend() == "gloo"
    device = None if is_on_cpu else torch.accelerator.current_accelerator()
    mesh = init_device_mesh(device.type if device else "cpu", (num_processes,))
    layers = [
        layer for layer in language_model.modules() if isinstance(layer, GradientCheckpointingLayer)
    ]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    # The rest is used after the pass as well: `unsharded_heads` says until when.
    fully_shard(language_model, mesh=mesh, reshard_after_forward=False)
    for part in _parts(language_model):
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(language_model, FORWARD)
    # It may be a view: nothing here is done to hidden states in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


@contextmanager
def unsharded_heads(*language_models: nn.Module) -> Iterator[None]:
    """Context in which heads are whole; it must surround every pass through sharded layers."""
    roots = [model for model in language_models if isinstance(model, FSDPModule)]
    for root in roots:
        root.unshard()
    try:
        yield
    finally:
        for root in roots:
            root.reshard()


@contextmanager
def unsharded(language_model: nn.Module) -> Iterator[None]:
    """Context in which a model is whole, so that processes may do different numbers of passes."""
    parts = _parts(language_model)
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not language_model, recurse=False)


def _parts(language_model: nn.Module) -> list[FSDPModule]:
    return [part for part in language_model.modules() if isinstance(part, FSDPModule)]


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor of which this process may hold only a share; all must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def full_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """`module.state_dict()` of whole tensors; tied weights stay one tensor."""
    state = module.state_dict(keep_vars=True)
    wholes = {id(tensor): full_tensor(tensor.detach()) for tensor in state.values()}
    return {name: wholes[id(tensor)] for name, tensor in state.items()}


def shard_like(value: Tensor, target: Tensor) -> Tensor:
    """A whole tensor, spread over processes as `target` is."""
    if not isinstance(target, DTensor):
        return value
    placed = value.to(target.device)
    # Every process has the whole: nothing needs to be sent.
    return distribute_tensor(placed, target.device_mesh, target.placements, src_data_rank=None)
