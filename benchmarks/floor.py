"""The floor of an iteration: the matrix products it cannot do without, at the machine's own rate.

Counted on real tokens, without padding: generation with a key-value cache and scoring by the
reference cost a forward pass each, an epoch of learning three (forward, and backward by inputs and
by weights; two where the weights are frozen under adapters). A forward pass is the body on prompts
and answers and the head on answers alone; attention scores, a few per cent at these lengths, are
left out, and so are adapters. `benchmarks.measurement` does the sum.
"""

from __future__ import annotations

import time

import torch

MATRIX_SIZE = 1024
NUM_PRODUCTS = 5
MAX_SECONDS_PER_TRY = 0.2
SMALL_MATRIX_SIZE = 256
"""For number formats that may have no instructions, and be a hundred times slower."""


def weights_in_products(model: torch.nn.Module) -> tuple[int, int]:
    """Weights that every token is multiplied with: of the body, and of the head."""
    body = model.base_model
    matrices = sum(weight.numel() for weight in body.parameters() if weight.ndim == 2)
    tables = sum(
        module.weight.numel() for module in body.modules() if isinstance(module, torch.nn.Embedding)
    )
    return matrices - tables, model.get_output_embeddings().weight.numel()


def matrix_rate(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    size: int = MATRIX_SIZE,
    num_tries: int = 3,
) -> float:
    """Floating-point operations per second of large matrix products, the best of some tries.

    Seconds are CPU seconds of all threads on a CPU, elapsed ones elsewhere.
    """
    left, right = torch.randn(2, size, size, device=device, dtype=dtype).unbind()
    clock = time.process_time if left.device.type == "cpu" else time.perf_counter

    def seconds(num_products: int) -> float:
        wait_for(left.device)
        started = clock()
        for _ in range(num_products):
            left @ right
        wait_for(left.device)
        return clock() - started

    # The first product warms up, and tells a number format that is emulated.
    num_products = max(1, min(NUM_PRODUCTS, int(MAX_SECONDS_PER_TRY / max(seconds(1), 1e-9))))
    best = min(seconds(num_products) for _ in range(num_tries))
    return num_products * 2 * size**3 / best


def bf16_speedup() -> float:
    """How much faster this CPU multiplies bfloat16 matrices than float32 ones."""
    return matrix_rate(dtype=torch.bfloat16, size=SMALL_MATRIX_SIZE, num_tries=2) / matrix_rate(
        size=SMALL_MATRIX_SIZE, num_tries=2
    )


def copy_rate(device: torch.device | str, num_bytes: int) -> float:
    """Bytes per second that the memory of a device gives, by copying a large tensor."""
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    wait_for(source.device)
    started = time.perf_counter()
    for _ in range(NUM_PRODUCTS):
        target.copy_(source)
    wait_for(source.device)
    # Each byte is read once and written once.
    return NUM_PRODUCTS * 2 * num_bytes / (time.perf_counter() - started)


def wait_for(device: torch.device) -> None:
    """Let an accelerator finish what it was given; a CPU has finished when a call returns."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
