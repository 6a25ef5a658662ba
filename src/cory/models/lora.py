"""LoRA layers that compute x Wᵀ + s (x Aᵀ) Bᵀ in as few steps as there are products.

peft does the same with a module per factor, and writes every output three times.

Legend: N tokens, B sequences, S columns, K inputs, M outputs, A adapters, R their ranks together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


@dataclass
class RowMask:
    """1 where a row of a batch has an adapter, else 0; None: all rows have all."""

    adapters: Float[Tensor, "B A"] | None = None


@dataclass(frozen=True)
class Factors:
    """One adapter's factors for sampling, or those of several on top of each other.

    `down` (R, K) is A, `up` (R, M) is s Bᵀ, in the number format of the products.
    """

    down: Tensor
    up: Tensor
    mask: RowMask

    def add(self, inputs: Float[Tensor, "B S K"], output: Float[Tensor, "B S M"]) -> Tensor:
        """The output with the adapters' part, for inference."""
        inner = inputs.to(self.down.dtype) @ self.down.t()
        if (adapters := self.mask.adapters) is not None:
            by_adapter = inner.view(*inner.shape[:-1], adapters.shape[1], -1)
            by_adapter *= adapters[:, None, :, None].to(inner.dtype)
        return output.flatten(0, -2).addmm_(inner.flatten(0, -2), self.up).view_as(output)


class LeanLinear(LoraLinear):
    """A linear layer with plain LoRA adapters, of which one acts.

    Whatever else peft can do with such a layer is left to peft.
    """

    factors: Factors | None = None
    """Set for the time of sampling."""

    def forward(self, x: Float[Tensor, "*N K"], *args: Any, **kwargs: Any) -> Float[Tensor, "*N M"]:
        if self.factors is not None:
            return self.factors.add(x, self.base_layer(x))
        name = None if args or kwargs else self._one_plain_adapter()
        if name is None:
            return super().forward(x, *args, **kwargs)
        base: Any = self.get_base_layer()
        down, up = self._halves(name)
        bias, scale = getattr(base, "bias", None), self.scaling[name]
        return _AdaptedProduct.apply(x, base.weight, bias, down, up, scale, type(base) is Conv1D)

    def factors_of(self, names: Sequence[str], mask: RowMask) -> Factors | None:
        """The factors of some adapters; None where one of them is more than plain LoRA."""
        if self.merged or self.disable_adapters or not all(map(self._is_plain, names)):
            return None
        halves = [self._halves(name) for name in names]
        downs = [down.detach() for down, _ in halves]
        ups = [
            up.detach() * self.scaling[name] for name, (_, up) in zip(names, halves, strict=True)
        ]
        dtype = _product_dtype(downs[0])
        return Factors(torch.cat(downs).to(dtype), torch.cat(ups, dim=1).t().to(dtype), mask)

    def _halves(self, name: str) -> tuple[Tensor, Tensor]:
        down, up = cast(Any, self.lora_A[name]), cast(Any, self.lora_B[name])
        return down.weight, up.weight

    def _one_plain_adapter(self) -> str | None:
        acting = [name for name in self.active_adapters if name in self.lora_A]
        is_one = len(acting) == 1 and not _is_changed(self.get_base_layer())
        if not is_one or self.merged or self.disable_adapters:
            return None
        return acting[0] if self._is_plain(acting[0]) else None

    def _is_plain(self, name: str) -> bool:
        return (
            name in self.lora_A
            and name not in self.lora_variant
            and self.lora_B[name].bias is None
            and _product_dtype(self._halves(name)[0]) == _product_dtype(self.weight)
            and not (self.training and isinstance(self.lora_dropout[name], nn.Dropout))
        )


def use_lean_lora(model: nn.Module) -> None:
    """Let peft's LoRA layers on plain linear ones compute as `LeanLinear` does."""
    for layer in model.modules():
        if type(layer) is LoraLinear and type(layer.get_base_layer()) in (nn.Linear, Conv1D):
            layer.__class__ = LeanLinear


@contextmanager
def held_factors(
    model: nn.Module, names: Sequence[str], mask: RowMask | None = None
) -> Iterator[None]:
    """Context in which adapters' factors stand ready, for passes between which none changes.

    Layers that are not `LeanLinear`, and adapters that are more than plain LoRA, are left to peft.

    Args:
        mask: of rows, where each has an adapter of its own.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LeanLinear)]
    try:
        for layer in layers:
            layer.factors = layer.factors_of(names, mask or RowMask())
        yield
    finally:
        for layer in layers:
            layer.factors = None


class _AdaptedProduct(torch.autograd.Function):
    """x Wᵀ + bias + s (x Aᵀ) Bᵀ, with W (K, M) where it is transposed, and gradients for x, A, B.

    With t = x Aᵀ and u = s g B: dx = g W + u A, dA = uᵀ x, dB = s gᵀ t.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        is_transposed: bool,
    ) -> Tensor:
        dtype = _product_dtype(weight)
        x, w, a = inputs.flatten(0, -2).to(dtype), weight.to(dtype), down.to(dtype)
        b = (up * scale).to(dtype)
        w = w.t() if is_transposed else w
        output = nn.functional.linear(x, w, None if bias is None else bias.to(dtype))
        inner = x @ a.t()
        output.addmm_(inner, b.t())
        ctx.scale, ctx.dtype, ctx.factor_dtype = scale, inputs.dtype, down.dtype
        ctx.save_for_backward(x, w, a, b, inner)
        return output.view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w, a, b, inner = ctx.saved_tensors
        gradient = gradients[0].flatten(0, -2)
        by_inner = gradient @ b
        by_inputs = by_down = by_up = None
        if ctx.needs_input_grad[0]:
            by_inputs = (gradient @ w).addmm_(by_inner, a).to(ctx.dtype)
            by_inputs = by_inputs.view(*gradients[0].shape[:-1], -1)
        if ctx.needs_input_grad[3]:
            by_down = (by_inner.t() @ x).to(ctx.factor_dtype)
        if ctx.needs_input_grad[4]:
            by_up = (gradient.t() @ inner).to(ctx.factor_dtype).mul_(ctx.scale)
        return by_inputs, None, None, by_down, by_up, None, None


def _product_dtype(weight: Tensor) -> torch.dtype:
    """The number format in which a weight is multiplied here."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def _is_changed(base: nn.Module) -> bool:
    """Whether a layer is trained, or computes something of its own."""
    hooks = (base._forward_hooks, base._forward_pre_hooks, base._backward_hooks)
    weights = base.parameters(recurse=False)
    return "forward" in vars(base) or any(hooks) or any(one.requires_grad for one in weights)
