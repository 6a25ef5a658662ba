"""Log-probabilities of chosen tokens, with a backward pass that needs no buffer of its own.

Legend: N tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

ENTRIES_PER_PIECE = {"cpu": 2**21}
"""Logits that are made at a time: on a CPU, as many as its caches hold."""
MANY_ENTRIES_PER_PIECE = 2**26
"""The same for devices not named above."""
LEAST_ROWS_PER_PIECE = 128
"""Fewer make a matrix product slow, however large the vocabulary."""
ENTRIES_KEPT = 2**27
"""Up to so many probabilities are kept for the backward pass; more are computed again."""


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor) -> Tensor:
        normaliser = logits.logsumexp(1, keepdim=True)
        ctx.save_for_backward(logits, normaliser, tokens)
        return (logits.gather(1, tokens[:, None]) - normaliser).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, normaliser, tokens = ctx.saved_tensors
        gradient = gradients[0][:, None]
        # d logprob / d logits = onehot − softmax, written over the logits, which nobody needs now.
        logits.sub_(normaliser).exp_().mul_(-gradient)
        return logits.scatter_add_(1, tokens[:, None], gradient), None


def token_logprobs(logits: Float[Tensor, "N V"], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Log softmax(logits) at the chosen tokens.

    The backward pass overwrites `logits`: use them for nothing else that is differentiated, and go
    backward once. What autograd would do by itself takes twice the passes over (N, V) and three
    buffers of that size.
    """
    return _TokenLogprobs.apply(logits, tokens)


class _HeadLogprobs(torch.autograd.Function):
    """Log-probabilities as a function of hidden states and head.

    With logits z = c W h, their maximum m, e = exp(z − m), s = Σ e and r = e − s onehot(token),

        d logprob / d h = −(c / s) rᵀ W,        d logprob / d W = −(c / s) r hᵀ,

    so that the backward pass is two products with r, which the forward pass leaves behind, and
    nothing of size (N, V) is ever scaled.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        tokens: Tensor,
        divisor: float,
        dtype: torch.dtype,
    ) -> Tensor:
        features, head = hidden.to(dtype), weight.to(dtype)
        size = (len(tokens), len(weight))
        learns_head = ctx.needs_input_grad[1]
        is_kept = learns_head and size[0] * size[1] <= ENTRIES_KEPT
        residuals = features.new_empty(size) if is_kept else None
        # A frozen head asks for the gradient by hidden states alone, which is small.
        slopes = torch.empty_like(features) if ctx.needs_input_grad[0] and not learns_head else None
        logprobs, sums = hidden.new_empty(2, size[0], dtype=torch.float32)
        for rows in _pieces(*size, hidden.device):
            residual, logprobs[rows], sums[rows] = _residual(
                features[rows], head, tokens[rows], divisor
            )
            if residuals is not None:
                residuals[rows] = residual
            elif slopes is not None:
                slopes[rows] = residual.to(dtype) @ head
        ctx.divisor, ctx.dtypes = divisor, (hidden.dtype, weight.dtype)
        ctx.save_for_backward(features, head, tokens, sums, residuals, slopes)
        return logprobs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, head, tokens, sums, residuals, slopes = ctx.saved_tensors
        factors = (-gradients[0] / (sums * ctx.divisor))[:, None]
        if slopes is not None:
            return (slopes * factors).to(ctx.dtypes[0]), None, None, None, None
        by_hidden = torch.empty_like(features, dtype=ctx.dtypes[0])
        by_head: Tensor | None = None
        scaled = (features * factors).to(features.dtype)
        size = (len(features), len(head))
        pieces = _pieces(*size, head.device) if residuals is None else iter([slice(None)])
        for rows in pieces:
            if residuals is None:
                residual = _residual(features[rows], head, tokens[rows], ctx.divisor)[0]
                residual = residual.to(head.dtype)
            else:
                residual = residuals[rows]
            if ctx.needs_input_grad[0]:
                by_hidden[rows] = (residual @ head) * factors[rows]
            if ctx.needs_input_grad[1]:
                part = (residual.t() @ scaled[rows]).to(ctx.dtypes[1])
                by_head = part if by_head is None else by_head.add_(part)
        return by_hidden if ctx.needs_input_grad[0] else None, by_head, None, None, None


def _residual(
    features: Tensor, head: Tensor, tokens: Tensor, divisor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What is r in `_HeadLogprobs`, the log-probabilities, and s; in float32."""
    logits = (features @ head.t()).float()
    if divisor != 1:
        logits.div_(divisor)
    logits.sub_(logits.amax(1, keepdim=True))
    chosen = tokens[:, None]
    picked = logits.gather(1, chosen)
    sums = logits.exp_().sum(1, keepdim=True)
    logits.scatter_add_(1, chosen, -sums)
    return logits, (picked - sums.log()).squeeze(1), sums.squeeze(1)


def _pieces(num_tokens: int, vocab_size: int, device: torch.device) -> Iterator[slice]:
    entries = ENTRIES_PER_PIECE.get(device.type, MANY_ENTRIES_PER_PIECE)
    size = max(LEAST_ROWS_PER_PIECE, entries // vocab_size)
    return (slice(start, start + size) for start in range(0, num_tokens, size))


def head_logprobs(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    tokens: Int[Tensor, " N"],
    divisor: float,
    dtype: torch.dtype,
) -> Float[Tensor, " N"]:
    """Log softmax(W h / divisor) at the chosen tokens, in float32, without (N, V) logits.

    Differentiable once, by `hidden` and `weight`; a head that is frozen leaves nothing of size
    (N, V) behind.

    Args:
        divisor: of the logits: the temperature.
        dtype: number format of the products; the rest is float32.
    """
    return _HeadLogprobs.apply(hidden, weight, tokens, divisor, dtype)
