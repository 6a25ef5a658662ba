"""Log-probabilities of chosen tokens and their lean backward pass."""

from __future__ import annotations

import torch

from cory.logprobs import token_logprobs


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
