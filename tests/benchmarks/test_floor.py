"""`benchmarks.floor`: what a speed is measured against is counted rightly."""

from __future__ import annotations

from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from benchmarks.floor import bf16_speedup, copy_rate, matrix_rate, weights_in_products


def test_the_weights_of_gpt2_are_counted_without_its_tables() -> None:
    """Prevents a floor that is too high, which would flatter us: embeddings cost no product.

    By hand: a layer of width D has 12 D² weights in its matrices, the head V D.
    """
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    assert weights_in_products(GPT2LMHeadModel(config)) == (2 * 12 * 8**2, 50 * 8)


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
    assert 1e8 < copy_rate("cpu", 2**22) < 1e13
    assert 1e-4 < bf16_speedup() < 1e3
