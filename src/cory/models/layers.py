"""Layers of a transformer that give the same for less work.

Legend: B sequences, S columns, N chosen positions of all sequences together, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

SLOPE = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715
CACHEFUL = 2**16
"""Numbers of which some float32 copies stay in a core's own cache."""
EXACT_ATTENTION = "sdpa_exact"
"""Name of our attention in transformers."""


class TanhGELU(nn.Module):
    """GPT-2's activation, ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), and its gradient.

    On a CPU it is written with a sigmoid, ½ (1 + tanh u) = σ(2u), in half the time of
    `torch.nn.GELU(approximate="tanh")`, which stands in everywhere else.
    """

    def forward(self, inputs: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        if inputs.device.type == "cpu" and inputs.dtype == torch.float32:
            return _GatedGELU.apply(inputs)
        if inputs.device.type == "cpu" and inputs.dtype == torch.bfloat16:
            return _CoarseGELU.apply(inputs)
        return nn.functional.gelu(inputs, approximate="tanh")


class _GatedGELU(torch.autograd.Function):
    """x σ(2u) with 2u = SLOPE (x + CUBIC x³)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        gate = inputs.square().mul_(SLOPE * CUBIC).add_(SLOPE).mul_(inputs).sigmoid_()
        ctx.save_for_backward(inputs, gate)
        return inputs * gate

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        inputs, gate = ctx.saved_tensors
        # d (x σ(2u)) / dx = σ (1 + (1 − σ) x d(2u)/dx)
        slope = inputs.square().mul_(3 * SLOPE * CUBIC).add_(SLOPE).mul_(inputs)
        return slope.mul_(1 - gate).add_(1).mul_(gate).mul_(gradients[0])


class _CoarseGELU(torch.autograd.Function):
    """The same for bfloat16: computed in float32, a cacheful at a time; its slope is bfloat16."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        outputs = torch.empty_like(inputs, memory_format=torch.contiguous_format)
        slopes = torch.empty_like(outputs) if ctx.needs_input_grad[0] else None
        source, target = inputs.reshape(-1), outputs.view(-1)
        for start in range(0, source.numel(), CACHEFUL):
            piece = slice(start, start + CACHEFUL)
            values = source[piece].float()
            squares = values.square()
            gate = (squares * (SLOPE * CUBIC)).add_(SLOPE).mul_(values).sigmoid_()
            target[piece] = values * gate
            if slopes is not None:
                slope = squares.mul_(3 * SLOPE * CUBIC).add_(SLOPE).mul_(values)
                slopes.view(-1)[piece] = slope.mul_(1 - gate).add_(1).mul_(gate)
        ctx.save_for_backward(slopes)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (slopes,) = ctx.saved_tensors
        return slopes * gradients[0]


def use_exact_attention(model: PreTrainedModel) -> None:
    """Let a model on a CPU sum attention in float64 where all else is bfloat16.

    The order of a sum follows from the length of the cache and of the padding. In float32 it
    changes the last bits, and so, now and then, what is rounded to bfloat16; thirty layers make of
    that another log-probability, by up to 0.4. Products of bfloat16 keep every row's order. With
    sums that are exact before they are rounded, sampling, scoring and learning agree bit for bit.
    """
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(EXACT_ATTENTION)


class _ExactAttention(torch.autograd.Function):
    """Attention summed in float64; its gradient, which nothing is compared with, in float32.

    Torch's backward pass of bfloat16 attention takes twelve times that of float32 on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, attend: Callable[..., Tensor], *inputs: Any) -> Tensor:
        ctx.attend = attend
        ctx.save_for_backward(*inputs)
        return attend(*(_in_format(one, torch.float64) for one in inputs)).to(inputs[0].dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Under gradient checkpointing they may be asked for only once.
        kept = ctx.saved_tensors
        inputs = [_in_format(one, torch.float32) for one in kept]
        places = [place for place, needed in enumerate(ctx.needs_input_grad[1:]) if needed]
        for place in places:
            inputs[place] = inputs[place].detach().requires_grad_()
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            output = ctx.attend(*inputs)
        found = torch.autograd.grad(
            output, [inputs[place] for place in places], gradients[0].float()
        )
        by_place = dict(zip(places, found, strict=True))
        return (
            None,
            *(
                by_place[place].to(one.dtype) if place in by_place else None
                for place, one in enumerate(kept)
            ),
        )


def _in_format(states: Tensor | None, dtype: torch.dtype) -> Any:
    """Numbers in another format; masks of truth values, and none, as they are."""
    return states.to(dtype) if states is not None and states.is_floating_point() else states


def _exact_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    if query.device.type != "cpu":
        # Sharded weights are prepared here, and then go to their device.
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

    def attend(*inputs: Any) -> Tensor:
        return sdpa_attention_forward(module, *inputs, **options)[0]

    # Autocast would take the arguments back to bfloat16. A mask may be learnt, too.
    with torch.autocast("cpu", enabled=False):
        return _ExactAttention.apply(attend, query, key, value, attention_mask), None


AttentionInterface.register(EXACT_ATTENTION, _exact_attention)
AttentionMaskInterface.register(EXACT_ATTENTION, sdpa_mask)


def hold_in_bfloat16(model: PreTrainedModel, trained: Iterable[nn.Parameter]) -> None:
    """Hold the frozen linear layers of a model in bfloat16, as autocast would convert them.

    Autocast does so again in every pass. Nothing else is rounded: embeddings, norms, a head that is
    also the embedding, and what is trained stay as they are.
    """
    kept = {id(weight) for weight in trained}
    kept |= {id(weight) for weight in model.get_input_embeddings().parameters()}
    for layer in model.modules():
        weights = list(layer.parameters(recurse=False))
        if type(layer) in (nn.Linear, Conv1D) and not kept & set(map(id, weights)):
            layer.to(torch.bfloat16)


def use_fast_gelu(model: nn.Module) -> None:
    """Replace GPT-2's `gelu_new`, eight element-wise operations, by the same function in one."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, TanhGELU())


def last_mlp(model: nn.Module) -> nn.Module | None:
    """The MLP of the last layer; None where there is none of that name, or it is recomputed.

    A layer whose activations are computed again in the backward pass (gradient checkpointing)
    must meet the same hooks there, so it is left alone.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers or "forward" in vars(layers[-1]):
        return None
    return getattr(layers[-1], "mlp", None)


@contextmanager
def only_at(module: nn.Module | None, positions: Bool[Tensor, "B S"]) -> Iterator[None]:
    """Context in which a position-wise module, (B, S, D) to (B, S, D), works only where True.

    Its output is 0 elsewhere. Behind the last layer's MLP nothing mixes positions any more, so the
    hidden states at `positions` are what they would be without. None: no module, nothing happens.
    Other threads that use the module meanwhile choose their own positions, or none.
    """
    if module is None:
        yield
        return
    rows = positions.flatten().nonzero().squeeze(1)
    thread = get_ident()

    def narrow(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if get_ident() != thread:
            return None
        return (inputs[0].flatten(0, 1).index_select(0, rows)[None], *inputs[1:])

    def widen(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if get_ident() != thread:
            return None
        whole = output.new_zeros(positions.numel(), output.shape[-1])
        return whole.index_copy(0, rows, output[0]).view(*positions.shape, -1)

    with module.register_forward_pre_hook(narrow), module.register_forward_hook(widen):
        yield


def keep_4bit_layout(model: nn.Module) -> None:
    """Keep bitsandbytes from packing 4-bit weights anew at the first pass in eval mode.

    It does so on processors with bfloat16 products, in place: for inference, and for layers whose
    input is a multiple of its block size. Here models are in eval mode while they learn.
    """
    for layer in cast(Iterable[Any], model.modules()):
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
