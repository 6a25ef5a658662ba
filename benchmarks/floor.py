"""The floor of an iteration: the matrix products it cannot do without, at the machine's own rate.

Counted on real tokens, without padding: generation with a key-value cache and scoring by the
reference cost a forward pass each, an epoch of learning three (forward, and backward by inputs and
by weights). A forward pass is the body on prompts and responses and the head on responses alone;
attention scores, a few per cent at these lengths, are left out.
"""

from __future__ import annotations

import time

import torch
from transformers import PreTrainedModel

from cory.batch import Batch

MATRIX_SIZE = 1024
NUM_PRODUCTS = 10


def floor_flop(model: PreTrainedModel, batch: Batch, num_epochs: int) -> float:
    """Floating-point operations of one agent's share of an iteration."""
    head = model.get_output_embeddings().weight.numel()
    body = sum(
        parameter.numel() for parameter in model.base_model.parameters() if parameter.ndim == 2
    ) - sum(
        module.weight.numel()
        for module in model.base_model.modules()
        if isinstance(module, torch.nn.Embedding)
    )
    forward = 2 * (body * int(batch.lengths.sum()) + head * batch.num_tokens)
    return forward * (2 + 3 * num_epochs)


def matrix_rate(num_tries: int = 5) -> float:
    """Floating-point operations per CPU second of large float32 products, best of some tries."""
    left, right = torch.randn(2, MATRIX_SIZE, MATRIX_SIZE).unbind()
    best = float("inf")
    for _ in range(num_tries):
        started = time.process_time()
        for _ in range(NUM_PRODUCTS):
            left @ right
        best = min(best, time.process_time() - started)
    return NUM_PRODUCTS * 2 * MATRIX_SIZE**3 / best
