"""Packed weights give what autocast gives, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from cory.models import packing
from cory.models.packing import packed

pytestmark = pytest.mark.skipif(
    not packing.has_bfloat16_products(torch.device("cpu")), reason="no bfloat16 products here"
)


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    found = [nn.Linear(576, 1536, bias=False), nn.Linear(60, 100), Conv1D(100, 60), nn.Linear(7, 3)]
    nn.init.normal_(found[2].bias)
    return found


@pytest.mark.parametrize("rows", [1, 2, 16, 33, 720])
def test_products_are_those_of_autocast(rows: int) -> None:
    for layer in layers():
        width = layer.nx if isinstance(layer, Conv1D) else layer.in_features
        inputs = torch.randn(rows, 1, width)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            plain = layer(inputs)
            with packed(layer):
                assert "forward" in vars(layer)
                fast = layer(inputs)
        assert torch.equal(plain, fast)
        assert "forward" not in vars(layer)


def test_other_layers_and_too_large_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a subclass that computes something else, and a machine without memory."""

    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    with packed(layer := Doubled(4, 4)):
        assert "forward" not in vars(layer)
    monkeypatch.setattr(packing, "LARGEST_SHARE", 1e-12)
    with packed(layer := nn.Linear(4, 4)):
        assert "forward" not in vars(layer)
