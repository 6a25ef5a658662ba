"""Log-probabilities of chosen tokens, with a backward pass that needs no buffer of its own.

Legend: N tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
