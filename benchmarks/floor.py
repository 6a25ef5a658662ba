"""The floor of an iteration: the matrix products it cannot do without, at the machine's own rate.

Counted on real tokens, without padding: generation with a key-value cache and scoring by the
reference cost a forward pass each, an epoch of learning three (forward, and backward by inputs and
by weights; two where the weights are frozen under adapters). A forward pass is the body on prompts
and answers and the head on answers alone; attention scores, a few per cent at these lengths, are
left out, and so are adapters. There are two rates, and so two floors: that of one large product,
and those of the products that occur (`benchmarks.products`). `benchmarks.measurement` does the
sums.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import torch
from transformers.pytorch_utils import Conv1D

from benchmarks.products import Matrix, Product

MATRIX_SIZE = 1024
NUM_PRODUCTS = 5
MAX_SECONDS_PER_TRY = 0.2
SMALL_MATRIX_SIZE = 256
"""For number formats that may have no instructions, and be a hundred times slower."""
MAX_CALLS, SECONDS_PER_TRY = 200, 0.02
"""Of products at their own shapes, some of which take microseconds on a GPU."""


def matrices(model: torch.nn.Module) -> tuple[list[Matrix], Matrix]:
    """Matrices that every token is multiplied with: of the body, and of the head."""
    body = model.base_model
    tables = {
        id(module.weight) for module in body.modules() if isinstance(module, torch.nn.Embedding)
    }
    shapes = Counter(
        # GPT-2 keeps its matrices the other way round.
        tuple(reversed(weight.shape) if isinstance(module, Conv1D) else weight.shape)
        for module in body.modules()
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2 and id(weight) not in tables
    )
    outputs, inputs = model.get_output_embeddings().weight.shape
    return [(*shape, count) for shape, count in shapes.items()], (outputs, inputs, 1)


def weights_in_products(model: torch.nn.Module) -> tuple[int, int]:
    """Weights that every token is multiplied with: of the body, and of the head."""
    body, (outputs, inputs, _) = matrices(model)
    return sum(rows * columns * count for rows, columns, count in body), outputs * inputs


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

    def multiply(num_products: int) -> float:
        def products() -> None:
            for _ in range(num_products):
                left @ right

        return seconds_of(products, left.device)

    # The first product warms up, and tells a number format that is emulated.
    num_products = max(1, min(NUM_PRODUCTS, int(MAX_SECONDS_PER_TRY / max(multiply(1), 1e-9))))
    best = min(multiply(num_products) for _ in range(num_tries))
    return num_products * 2 * size**3 / best


def product_seconds(
    product: Product, device: torch.device | str, dtype: torch.dtype, num_tries: int = 5
) -> float:
    """Seconds of a product at its own shape, the best of some tries; as `matrix_rate`'s."""
    rows, outputs, inputs = product.rows, product.outputs, product.inputs

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    left, right = {
        "forward": lambda: (random(rows, inputs), random(outputs, inputs).T),
        "by_inputs": lambda: (random(rows, outputs), random(outputs, inputs)),
        "by_weights": lambda: (random(rows, outputs).T, random(rows, inputs)),
    }[product.kind]()
    return best_seconds(lambda: left @ right, left.device, num_tries)


def best_seconds(function: Callable[[], object], device: torch.device, num_tries: int) -> float:
    """Seconds of a function of tensors, called often enough to be timed, the best of some tries."""
    function()
    once = seconds_of(function, device)
    num_calls = max(1, min(MAX_CALLS, int(SECONDS_PER_TRY / max(once, 1e-9))))
    calls = repeated(function, num_calls, device)
    return min(seconds_of(calls, device) for _ in range(num_tries)) / num_calls


def repeated(
    function: Callable[[], object], num_calls: int, device: torch.device
) -> Callable[[], None]:
    """The calls in one: on CUDA a graph, since a launch may take as long as a small product.

    The function has been called before, so that libraries have set themselves up.
    """

    def calls() -> None:
        for _ in range(num_calls):
            function()

    if device.type != "cuda":
        return calls
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph):
        calls()
    graph.replay()
    return graph.replay


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """CPU seconds of all threads on a CPU, elapsed ones elsewhere."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait_for(device)
    started = clock()
    function()
    wait_for(device)
    return clock() - started


def bf16_speedup() -> float:
    """How much faster this CPU multiplies bfloat16 matrices than float32 ones."""
    return matrix_rate(dtype=torch.bfloat16, size=SMALL_MATRIX_SIZE, num_tries=2) / matrix_rate(
        size=SMALL_MATRIX_SIZE, num_tries=2
    )


def memory_rate(device: torch.device | str, num_bytes: int, num_tries: int = 5) -> float:
    """Bytes per second that the memory of a device gives: by a copy, or a sum if that is faster.

    Each byte is read once and, by the copy, written once. On a CPU the rate depends on the bytes:
    few of them stay in its caches.
    """
    numbers = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(numbers)
    copied = best_seconds(lambda: target.copy_(numbers), numbers.device, num_tries)
    read = best_seconds(numbers.sum, numbers.device, num_tries)
    return numbers.nbytes * max(2 / copied, 1 / read)


def wait_for(device: torch.device) -> None:
    """Let an accelerator finish what it was given; a CPU has finished when a call returns."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
