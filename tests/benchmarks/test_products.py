"""`benchmarks.products`: every product of an iteration is counted, once, at its own shape."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.cases import SHAPES, Case
from benchmarks.goals import PROCESSORS, machine_class
from benchmarks.measurement import Measurement
from benchmarks.products import (
    MAX_ROWS,
    Pass,
    TimedPass,
    cache_bytes,
    passes,
    split,
    time_pass,
    weight_bytes,
)

CASE = Case("x", shape="tiny", num_agents=2, batch_size=4, num_tokens=6, num_epochs=3)
TOTAL = 2 * 4 * 11
"""Prompts of 5 tokens and answers of 6, to both agents."""


def shape_of(one: Pass) -> tuple[str, str, float, float, float]:
    return one.phase, one.kind, one.rows, one.head_rows, one.times


def test_the_passes_of_an_iteration_by_hand() -> None:
    """Prevents decoding that is counted as one tall product, and a head that reads prompts."""
    assert [shape_of(one) for one in passes(CASE, TOTAL)] == [
        ("generate", "forward", 20, 4, 2),
        # The first token comes out of the prompt.
        ("generate", "forward", 4, 4, 2 * 5),
        ("score", "forward", 44, 24, 2),
        ("update", "forward", 44, 24, 6),
        ("update", "by_inputs", 44, 24, 6),
        ("update", "by_weights", 44, 24, 6),
    ]
    # Four sequences with 5 + 3 tokens each; keys and values of 2 layers, 32 wide, of 4 bytes.
    assert passes(CASE, TOTAL)[1].cached_bytes == cache_bytes(CASE, TOTAL) == 4 * 8 * 2 * 2 * 32 * 4


def test_what_can_be_shared_is_counted_once() -> None:
    """Prevents a floor that an engine could go below: it would call slow work fast."""
    grouped = CASE.replace(num_agents=1, num_generations=2)
    assert shape_of(passes(grouped, TOTAL // 2)[0])[2:] == (10, 2, 1)
    adapters = CASE.replace(adapters=True, transfer=False)
    prompt, step, _, *learnt = passes(adapters, TOTAL)
    assert shape_of(prompt)[2:] == (40, 8, 1)
    assert shape_of(step)[2:] == (8, 8, 5)
    assert step.cached_bytes == 2 * cache_bytes(CASE, TOTAL)
    assert [one.kind for one in learnt] == ["forward", "by_inputs"]


def test_few_heads_of_keys_are_few_bytes() -> None:
    """Prevents a memory limit that models with grouped queries exceed."""
    llama = CASE.replace(shape="smollm2")
    assert SHAPES["smollm2"].key_width == 192
    assert cache_bytes(llama, TOTAL) == 4 * 8 * 30 * 2 * 192 * 4
    assert weight_bytes(llama, 1000, 100) == 4400
    assert weight_bytes(llama.replace(bf16=True), 1000, 100) == 2200
    assert weight_bytes(llama.replace(bf16=True, load_in_4bit=True), 1000, 100) == 700


def test_the_time_of_a_pass_is_that_of_its_products_or_of_memory() -> None:
    """Prevents a floor that forgets how often a matrix occurs, or that memory is slower."""
    one = Pass("update", "by_inputs", 6, 2, 10, cached_bytes=50)
    timed = time_pass(one, [(3, 2, 4)], (7, 2, 1), 100, lambda product: product.flop / 1000)
    flop = 2 * (4 * 6 * 3 * 2 + 2 * 7 * 2)
    assert (timed.flop, timed.num_bytes, timed.times) == (flop, 150, 10)
    assert timed.seconds == pytest.approx(flop / 1000)
    assert timed.floor_seconds(memory_rate=1e6) == pytest.approx(flop / 100)
    assert timed.floor_seconds(memory_rate=1) == pytest.approx(10 * 150)


def test_many_rows_are_many_products_of_the_same_size() -> None:
    """Prevents products that do not fit into memory, and rows that are lost on the way."""
    assert split("forward", 10, 3, 2)[0] == 1
    for rows in (4096, 4097, 30_000.5, 0.3):
        repeats, product = split("forward", rows, 3, 2)
        assert product.rows <= MAX_ROWS
        assert repeats * product.rows == pytest.approx(rows)


def test_the_floor_of_own_shapes_by_hand(make_measurement: Callable[..., Measurement]) -> None:
    """Prevents phases that are held against the floor of another."""
    measured = make_measurement()
    assert measured.own_floor_seconds("generate") == 2 * 0.5
    assert measured.own_floor_seconds("update") == 4 * 0.75
    assert measured.times_own_floor == 4.0 / (2 * 0.5 + 4 * 0.75)
    faster = make_measurement(passes=[TimedPass("update", "a", 1.0, 1e6, 0, 1.0)])
    assert faster.times_own_floor == 4.0


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "AMX"),
        ({"amx_bf16": False, "avx512_bf16": True}, "AVX512-BF16"),
        ({"avx2": True}, "plain"),
        ({}, "plain"),
    ],
)
def test_a_processor_has_one_class(found: dict[str, bool], expected: str) -> None:
    """Prevents goals of a processor that multiplies bfloat16 nine times as fast."""
    assert machine_class(found) == expected
    assert machine_class() in PROCESSORS
