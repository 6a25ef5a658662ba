"""Lean LoRA layers compute what peft's do, with the same gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from transformers.pytorch_utils import Conv1D

from cory.models.lora import LeanLinear, RowMask, held_factors, use_lean_lora
from cory.models.packing import packed

ROWS, COLUMNS, INPUTS, OUTPUTS = 5, 7, 24, 40

# peft sets it by itself where layers are of both kinds.
pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set")


class Model(nn.Module):
    """One linear layer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(INPUTS, OUTPUTS)
        self.conv = Conv1D(INPUTS, OUTPUTS)
        nn.init.normal_(self.conv.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.conv(self.linear(inputs))


@contextmanager
def as_peft(model: nn.Module) -> Iterator[None]:
    """Context in which the layers are peft's own again."""
    layers = [layer for layer in model.modules() if type(layer) is LeanLinear]
    assert len(layers) == 2
    for layer in layers:
        layer.__class__ = LoraLinear
    yield
    for layer in layers:
        layer.__class__ = LeanLinear


def adapted(**options: object) -> PeftModel:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["linear", "conv"], lora_alpha=12, **options)
    model = get_peft_model(Model(), config, adapter_name="first")
    model.add_adapter("second", config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.3)
    use_lean_lora(model)
    return model.eval()


def outcome(model: PeftModel, inputs: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of inputs and factors."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    output = model(inputs)
    assert output.dtype == (torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32)
    with torch.autocast("cpu", enabled=False):
        return [output, *torch.autograd.grad(output.float().square().sum(), [inputs, *weights])]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", ["first", "second"])
def test_outputs_and_gradients_are_those_of_peft(name: str, bf16: bool) -> None:
    model = adapted()
    model.set_adapter(name)
    inputs = torch.randn(ROWS, COLUMNS, INPUTS, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        ours = outcome(model, inputs)
        with as_peft(model):
            theirs = outcome(model, inputs)
    assert len(ours) == 6
    for mine, yours in zip(ours, theirs, strict=True):
        # Ours rounds to bfloat16 once where peft does three times.
        torch.testing.assert_close(
            mine,
            yours,
            rtol=0.05 if bf16 else 1e-5,
            atol=2e-5 * yours.abs().max().item() if not bf16 else 0.02 * yours.abs().max().item(),
        )


@pytest.mark.parametrize("bf16", [False, True])
def test_sampling_gives_what_learning_gives(bf16: bool) -> None:
    """Prevents a first ratio other than 1: the same rounding with and without a gradient."""
    model = adapted()
    inputs = torch.randn(ROWS, COLUMNS, INPUTS)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        learning = model(inputs)
        with torch.no_grad():
            scoring = model(inputs)
            with held_factors(model, ["first"]), packed(model) if bf16 else torch.no_grad():
                sampling = model(inputs[:, -1:])
    assert torch.equal(learning, scoring)
    torch.testing.assert_close(sampling, learning[:, -1:], rtol=0, atol=0 if bf16 else 1e-4)
    assert model(inputs).grad_fn is not None


@pytest.mark.parametrize("bf16", [False, True])
def test_rows_have_an_adapter_each(bf16: bool) -> None:
    model = adapted()
    inputs = torch.randn(4, COLUMNS, INPUTS)
    mask = RowMask(torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 0]]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        with held_factors(model, ["first", "second"], mask):
            mixed = model(inputs)
        model.set_adapter("first")
        first = model(inputs)
        model.set_adapter("second")
        second = model(inputs)
        with model.disable_adapter():
            none = model(inputs)
    alone = torch.stack([first[0], second[1], second[2], none[3]])
    torch.testing.assert_close(mixed, alone, rtol=0, atol=0 if bf16 else 1e-4)


def test_what_is_more_than_plain_lora_is_left_to_peft() -> None:
    """Prevents an option of peft that has no effect any more."""
    inputs = torch.randn(ROWS, COLUMNS, INPUTS)
    for options in ({"use_dora": True}, {"lora_bias": True}):
        model = adapted(**options)
        with as_peft(model):
            theirs = model(inputs)
        assert torch.equal(model(inputs), theirs)
        with torch.no_grad(), held_factors(model, ["first"]):
            assert torch.equal(model(inputs), theirs)
    model = adapted(lora_dropout=0.5)
    assert not torch.equal(model.train()(inputs), model.eval()(inputs))


def test_a_base_with_another_format_than_its_adapters_is_left_to_peft() -> None:
    """Prevents factors rounded to a base's bfloat16 where peft computes them in float32."""
    model = adapted()
    for base in (model.base_model.model.linear, model.base_model.model.conv):
        base.get_base_layer().to(torch.bfloat16)
    inputs = torch.randn(ROWS, COLUMNS, INPUTS, dtype=torch.bfloat16)
    with as_peft(model):
        theirs = model(inputs)
    assert torch.equal(model(inputs), theirs)
