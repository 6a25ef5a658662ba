"""Log-probabilities of chosen tokens and their lean backward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CohereConfig, GPT2LMHeadModel, OPTConfig

from cory.models import logprobs as room
from cory.models.logprobs import head_logprobs, token_logprobs
from cory.models.policy import has_plain_head
from tests.tiny_models import TINY, tiny_model


def test_values_and_gradients_are_those_of_log_softmax():
    """A backward pass written by hand could lose the sign, the scale or the chosen token."""
    torch.manual_seed(0)
    hidden = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    tokens = torch.randint(11, (7,))
    upstream = torch.randn(7, dtype=torch.float64)

    expected = (hidden @ weight.T).log_softmax(1).gather(1, tokens[:, None]).squeeze(1)
    gradients = torch.autograd.grad((expected * upstream).sum(), (hidden, weight))
    logprobs = token_logprobs(hidden @ weight.T, tokens)
    ours = torch.autograd.grad((logprobs * upstream).sum(), (hidden, weight))

    torch.testing.assert_close(logprobs, expected)
    for gradient, reference in zip(ours, gradients, strict=True):
        torch.testing.assert_close(gradient, reference)


def test_large_logits_stay_finite():
    """The exp of a logit overflows unless the normaliser is taken off first."""
    logits = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    logprobs = token_logprobs(logits * 1.0, torch.tensor([2]))
    logprobs.sum().backward()

    assert logprobs.item() == -2e4
    assert logits.grad is not None
    assert logits.grad.tolist() == [[-1.0, 0.0, 1.0]]


N, D, V = 300, 5, 11


def head_case(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    hidden = torch.randn(N, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(V, (N,)), torch.randn(N, dtype=dtype)


@pytest.mark.parametrize("kept", [2**27, 0], ids=["kept", "computed again"])
def test_fused_heads_have_the_gradients_of_dense_ones(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents wrong scales, rows of one piece beside another's, and a forgotten temperature."""
    monkeypatch.setattr(room, "ENTRIES_KEPT", kept)
    monkeypatch.setitem(room.ENTRIES_PER_PIECE, "cpu", 1)
    hidden, weight, tokens, upstream = head_case(torch.float32)
    dense = (hidden.double() @ weight.double().T / 0.7).log_softmax(1)
    expected = dense.gather(1, tokens[:, None]).squeeze(1)
    gradients = torch.autograd.grad((expected * upstream).sum(), (hidden, weight))
    fused = head_logprobs(hidden, weight, tokens, 0.7, torch.float32)
    ours = torch.autograd.grad((fused * upstream).sum(), (hidden, weight))
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[0], gradients[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1], gradients[1], rtol=1e-4, atol=1e-4)


def test_a_sure_token_keeps_its_small_gradient_in_bfloat16() -> None:
    """Prevents 1 − p from being a difference of two rounded numbers near 1."""
    weight = torch.eye(V, D).requires_grad_()
    hidden = torch.tensor([[9.0, 0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    dense = (hidden @ weight.T).log_softmax(1)[:, 0]
    [expected] = torch.autograd.grad(dense.sum(), hidden)
    fused = head_logprobs(hidden, weight, torch.tensor([0]), 1.0, torch.bfloat16)
    [ours] = torch.autograd.grad(fused.sum(), hidden)
    assert 0 < expected[0, 0] < 2e-3
    torch.testing.assert_close(ours, expected, rtol=2**-7, atol=0)


def test_bfloat16_products_and_float32_statistics() -> None:
    """Prevents log-probabilities in bfloat16, and gradients that are off by more than rounding."""
    hidden, weight, tokens, upstream = head_case(torch.float32)
    dense = (hidden @ weight.T).log_softmax(1).gather(1, tokens[:, None]).squeeze(1)
    expected = torch.autograd.grad((dense * upstream).sum(), (hidden, weight))
    fused = head_logprobs(hidden, weight, tokens, 1.0, torch.bfloat16)
    ours = torch.autograd.grad((fused * upstream).sum(), (hidden, weight))
    assert fused.dtype == ours[0].dtype == ours[1].dtype == torch.float32
    torch.testing.assert_close(fused, dense, rtol=0.05, atol=0.1)
    for gradient, reference in zip(ours, expected, strict=True):
        error = (gradient - reference).norm() / reference.norm()
        assert error < 0.02


class Largest(TorchDispatchMode):
    """The most entries of any tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **kwargs or {})
        if isinstance(output, Tensor):
            self.entries = max(self.entries, output.numel())
        return output


def test_a_frozen_head_holds_no_logits_of_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents (N, V) numbers that wait for a gradient nobody asked for."""
    monkeypatch.setitem(room.ENTRIES_PER_PIECE, "cpu", 1)
    hidden, weight, tokens, _ = head_case(torch.float32)
    with Largest() as largest:
        head_logprobs(hidden, weight.detach(), tokens, 1.0, torch.float32).sum().backward()
    assert largest.entries <= max(room.LEAST_ROWS_PER_PIECE * V, N * D) < N * V
    [expected] = torch.autograd.grad(
        (hidden @ weight.T).log_softmax(1).gather(1, tokens[:, None]).sum(), hidden
    )
    torch.testing.assert_close(hidden.grad, expected, rtol=1e-4, atol=1e-5)


def test_only_plain_heads_are_fused(tiny_gpt2_dir: Path) -> None:
    """Prevents scale, bias or cap from being left out."""
    assert has_plain_head(GPT2LMHeadModel.from_pretrained(tiny_gpt2_dir))
    assert has_plain_head(tiny_model(OPTConfig(**TINY, ffn_dim=64, word_embed_proj_dim=32)))
    assert not has_plain_head(tiny_model(CohereConfig(**TINY, logit_scale=0.25)))
    biased = GPT2LMHeadModel.from_pretrained(tiny_gpt2_dir)
    biased.lm_head = torch.nn.Linear(32, 320)
    assert not has_plain_head(biased)
