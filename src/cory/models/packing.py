"""Weights laid out once for many products, where a CPU multiplies bfloat16.

oneDNN reads a weight in blocks. Given it row by row it lays it out anew in every product, which at
a token per sequence takes longer than the product itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import psutil
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

LARGEST_SHARE = 1 / 4
"""Of the memory that is free: what a second layout of the weights may take."""


def has_bfloat16_products(device: torch.device) -> bool:
    """Whether a device has instructions for them; where it has none they are slow."""
    if device.type == "cpu":
        cpu: Any = torch.cpu
        return cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Context, for inference on a CPU, in which linear layers multiply packed bfloat16 weights.

    They give what they give under autocast, bit for bit, as oneDNN adds in the same order. Other
    layers stay as they are, and all do where oneDNN or memory is missing.
    """
    layers: list[Any] = [layer for layer in model.modules() if type(layer) in (nn.Linear, Conv1D)]
    layers = [layer for layer in layers if _can_be_packed(layer.weight)]
    num_bytes = sum(2 * layer.weight.numel() for layer in layers)
    with ExitStack() as undo:
        if num_bytes <= LARGEST_SHARE * psutil.virtual_memory().available:
            for layer in layers:
                undo.enter_context(_instead(layer, _packed_forward(layer)))
        yield


def _can_be_packed(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and type(weight.data) is Tensor
        and torch.backends.mkldnn.is_available()
        and has_bfloat16_products(weight.device)
    )


def _packed_forward(layer: Any) -> Any:
    weight = layer.weight.detach().to(torch.bfloat16)
    if isinstance(layer, Conv1D):
        weight = weight.t()
    bias = None if layer.bias is None else layer.bias.detach().to(torch.bfloat16)
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return partial(_multiply, blocks, bias)


def _multiply(
    blocks: Tensor, bias: Tensor | None, inputs: Float[Tensor, "*N K"]
) -> Float[Tensor, "*N M"]:
    product = torch.ops.mkldnn._linear_pointwise
    return product(inputs.to(torch.bfloat16), blocks, bias, "none", [], "")


@contextmanager
def _instead(layer: nn.Module, forward: Any) -> Iterator[None]:
    """Context in which a layer computes with another function."""
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
