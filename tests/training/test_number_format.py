"""`bf16="auto"` is decided once, by the device, and recorded as decided."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from cory import CORYTrainer
from cory.models import packing
from cory.training import setup
from tests.teams import QUERIES, length_reward, make_args


@pytest.mark.parametrize("has_products", [True, False])
def test_auto_follows_the_processor(
    has_products: bool,
    tiny_gpt2_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Prevents bfloat16 where it is slow, and a run that does not say what it computed in."""
    monkeypatch.setattr(setup, "has_bfloat16_products", lambda _: has_products)
    args = make_args(tiny_gpt2_dir, bf16="auto", output_dir=str(tmp_path), max_steps=1)
    trainer = CORYTrainer(
        reward_funcs=length_reward, args=args, train_dataset=[{"prompt": one} for one in QUERIES]
    )
    trainer.train()
    assert {policy.bf16 for policy in trainer.policies} == {has_products}
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["bf16"] is has_products
    assert ("bfloat16" in capsys.readouterr().err) is has_products


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"), [(1, 1, True), (0, 1, True), (1, 0, True), (0, 0, False)]
)
def test_a_processor_needs_one_of_the_instruction_sets(
    amx: int, avx512: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx512))
    assert packing.has_bfloat16_products(torch.device("cpu")) is expected
