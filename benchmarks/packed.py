"""Products of bfloat16 with weights as they lie, and packed: is it faster, and the same?

    OMP_NUM_THREADS=1 python -m benchmarks.packed

Weights take turns, so that they come from memory as in a model.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.table import table
from cory.models.packing import packed

SHAPES = ((576, 1536, 30), (576, 49_152, 2))
"""Inputs, outputs, and number of weights: SmolLM2's MLP and head."""
ROWS = (16, 64, 272, 720, 1024)
SECONDS_PER_TRY = 0.05
NUM_TRIES = 5


def microseconds(work: Callable[[], object]) -> float:
    """CPU time of a call, the best of some tries."""
    work()
    best = float("inf")
    for _ in range(NUM_TRIES):
        calls, started = 0, time.process_time()
        while time.process_time() - started < SECONDS_PER_TRY:
            work()
            calls += 1
        best = min(best, (time.process_time() - started) / calls)
    return best * 1e6


@torch.no_grad()
def measure(inputs: int, outputs: int, number: int, rows: int) -> list[str]:
    """One line of the table."""
    layers = nn.ModuleList(nn.Linear(inputs, outputs, bias=False) for _ in range(number))
    layers.to(torch.bfloat16)
    states = torch.randn(rows, inputs, dtype=torch.bfloat16)
    turns = itertools.cycle(layers)
    plain, expected = microseconds(lambda: next(turns)(states)), layers[0](states)
    with packed(layers):
        fast, found = microseconds(lambda: next(turns)(states)), layers[0](states)
    flop = 2 * rows * inputs * outputs
    return [
        f"{rows} × ({inputs} → {outputs:,})",
        f"{plain:,.0f}",
        f"{fast:,.0f}",
        f"{flop / plain / 1e3:,.0f}, {flop / fast / 1e3:,.0f}",
        "yes" if torch.equal(expected, found) else "no",
    ]


def main() -> None:
    """Measure and print."""
    torch.manual_seed(0)
    lines = [measure(*shape, rows) for shape in SHAPES for rows in ROWS]
    heading = ["rows × (inputs → outputs)", "plain, µs", "packed, µs", "GFLOP/s", "same bits"]
    print(table(heading, lines))


if __name__ == "__main__":
    main()
