"""`benchmarks.floor`: what a speed is measured against is counted rightly."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from benchmarks.floor import (
    best_seconds,
    bf16_speedup,
    matrices,
    matrix_rate,
    memory_rate,
    product_seconds,
    seconds_of,
    weights_in_products,
)
from benchmarks.products import Kind, Product


def test_the_weights_of_gpt2_are_counted_without_its_tables() -> None:
    """Prevents a floor that is too high, which would flatter us: embeddings cost no product.

    By hand: a layer of width D has 12 D² weights in its matrices, the head V D.
    """
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config)
    assert weights_in_products(model) == (2 * 12 * 8**2, 50 * 8)
    # Outputs and inputs: GPT-2 stores them the other way round.
    body, head = matrices(model)
    assert set(body) == {(24, 8, 2), (8, 8, 2), (32, 8, 2), (8, 32, 2)}
    assert head == (50, 8, 1)


def test_the_weights_of_llama_are_counted_with_its_gate() -> None:
    """Prevents a count that holds for one architecture: four D², and three D × inner width."""
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=8,
        intermediate_size=20,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    assert weights_in_products(LlamaForCausalLM(config)) == (3 * (4 * 8**2 + 3 * 8 * 20), 50 * 8)


def test_the_rates_are_those_of_this_machine() -> None:
    """Prevents rates in other units: no core does less than 0.1 or more than 10,000 GFLOP/s."""
    assert 1e8 < matrix_rate(num_tries=1) < 1e13
    assert 1e8 < memory_rate("cpu", 2**22, num_tries=1) < 1e13
    assert 1e-4 < bf16_speedup() < 1e3


@pytest.mark.parametrize("kind", ["forward", "by_inputs", "by_weights"])
def test_the_three_products_of_a_layer_are_those_of_its_gradient(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents rates of products that a backward pass does not make, of other shapes."""
    seen: list[torch.Size] = []

    def called_once(function: object, *_: object) -> float:
        assert callable(function)
        seen.append(function().shape)
        return 2.0

    monkeypatch.setattr("benchmarks.floor.best_seconds", called_once)
    product = Product(kind, rows=5, outputs=3, inputs=2)
    assert product_seconds(product, "cpu", torch.float32) == 2.0
    assert seen == [{"forward": (5, 3), "by_inputs": (5, 2), "by_weights": (3, 2)}[kind]]
    assert product.flop == 2 * 5 * 3 * 2


def test_a_short_function_is_called_often_and_a_long_one_once() -> None:
    """Prevents products whose time is that of reading the clock."""
    short: list[int] = []
    seconds = best_seconds(lambda: short.append(1), torch.device("cpu"), 2)
    assert len(short) == 2 + 2 * 200
    assert 0 < seconds < 1e-3
    left = torch.randn(700, 700)
    long = seconds_of(lambda: [left @ left for _ in range(20)], left.device)
    assert best_seconds(lambda: left @ left, left.device, 2) < long
