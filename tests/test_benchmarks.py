"""`benchmarks`: what a speed is measured against is counted rightly."""

from __future__ import annotations

from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.floor import floor_flop, matrix_rate
from cory.batch import make_batch


def test_the_floor_is_counted_on_real_tokens() -> None:
    """Prevents a floor that is too high, which would flatter us: padding, prompts in the head.

    By hand: a layer of width D has 12 D² weights in its matrices, the head V D; seven tokens, of
    which three are answered; one pass to generate, one of the reference, three per epoch.
    """
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    )
    batch = make_batch([[1, 2, 3], [4]], [[5], [6, 7]], pad_id=0)
    forward = 2 * (2 * 12 * 8**2 * 7 + 50 * 8 * 3)
    assert floor_flop(model, batch, num_epochs=4) == 14 * forward
    assert floor_flop(model, batch, num_epochs=1) == 5 * forward


def test_the_rate_is_that_of_this_machine() -> None:
    """Prevents a rate in other units: no core does less than 0.1 or more than 10,000 GFLOP/s."""
    assert 1e8 < matrix_rate(num_tries=1) < 1e13
