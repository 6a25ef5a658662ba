"""`benchmarks.gpu`: its tiny shapes run on a CPU, its limits are counted rightly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.cases import SHAPES, Case
from benchmarks.files import read_texts, save_files
from benchmarks.limits import decode_limit, decode_rate, update_utilisation
from benchmarks.measurement import Measurement
from benchmarks.meter import Meter
from benchmarks.running import Results
from benchmarks.workers import ours
from benchmarks.workers.common import Work

OURS = [case for case in gpu.CASES if case.side == "cory"]


def test_the_memory_s_limit_by_hand(make_measurement: Callable[..., Measurement]) -> None:
    """Prevents a limit that decoding can exceed, or that flatters it.

    A step for 4 sequences reads 1,000 + 100 weights and, of 2 layers of width 32, keys and values
    of 8 tokens each on average (5 of the prompt, half of 6), in 4 bytes.
    """
    case = Case("x", shape="tiny", batch_size=4, num_tokens=6)
    measured = make_measurement(case, total_tokens=4 * 11)
    step = 4 * 1100 + 4 * 4 * 8 * 2 * 2 * 32
    assert decode_limit(measured) == pytest.approx(4 * 1e9 / step)
    assert decode_rate(measured) == 24.0
    in_bf16 = make_measurement(case.replace(dtype="bfloat16"), total_tokens=4 * 11)
    assert decode_limit(in_bf16) == pytest.approx(2 * 4 * 1e9 / step)
    in_nf4 = make_measurement(
        case.replace(dtype="bfloat16", load_in_4bit=True), total_tokens=4 * 11
    )
    assert decode_limit(in_nf4) == pytest.approx(4 * 1e9 / (step / 2 - 1000 * 1.5))


def test_utilisation_by_hand(make_measurement: Callable[..., Measurement]) -> None:
    """Prevents utilisation of the whole iteration under the name of the update's."""
    case = Case("x", batch_size=2, num_tokens=5, num_epochs=4)
    measured = make_measurement(case, total_tokens=13)
    flop = 12 * 2 * (1000 * 13 + 100 * 10)
    assert update_utilisation(measured) == pytest.approx(flop / 3.0 / 1e6)


def test_there_is_a_tiny_case_for_every_case_and_work_is_equal_in_pairs() -> None:
    """Prevents a GPU run that ends in an error after half an hour."""
    names = {case.name: case for case in gpu.CASES}
    for mine, theirs in gpu.PAIRS:
        assert names[mine].work == names[theirs].work
    for case in gpu.CASES:
        assert gpu.adapted(case, "cpu", is_tiny=True).shape in SHAPES
        assert gpu.adapted(case, "cuda", is_tiny=False) == case.replace(device="cuda")


@pytest.mark.parametrize("case", OURS, ids=lambda case: case.name)
def test_our_tiny_cases_run_on_a_cpu(case: Case, tmp_path: Path) -> None:
    """Prevents adapters, 4 bits or bfloat16 that were never tried before the GPU was paid for."""
    tiny = gpu.adapted(case, "cpu", is_tiny=True)
    save_files(tmp_path, tiny, SHAPES[tiny.shape], read_texts(None))
    with closing(Meter()) as meter:
        measured = ours.measure(Work(tiny, tmp_path, meter))
    measured.check()
    text = gpu.render(Results({case.name: measured}, {"other": "no wheel"}))
    assert f"| {case.name} | {tiny.shape}" in text
    assert "- other: no wheel" in text


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a GPU benchmark of a CPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.find_device(is_tiny=True) == "cpu"
    with pytest.raises(SystemExit, match="--tiny"):
        gpu.find_device(is_tiny=False)


@pytest.mark.slow
def test_a_tiny_run_writes_its_results(tmp_path: Path) -> None:
    """Prevents a run that fails at its last step; TRL's case runs where TRL is installed."""
    chosen = ["grpo-gpt2-large", "trl-grpo-gpt2-large", "cory-llama-nf4"]
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--only", *chosen]
    subprocess.run([*command, "--output", str(tmp_path / "gpu")], check=True, env=os.environ)
    text = (tmp_path / "gpu.md").read_text()
    assert "| grpo-gpt2-large | tiny" in text
    assert "| cory-llama-nf4 | tiny-llama LoRA NF4" in text
    assert "| trl-grpo-gpt2-large | tiny" in text or "TRL is not installed" in text


@pytest.mark.gpu
def test_a_gpu_is_measured(tmp_path: Path) -> None:
    """Prevents clocks that do not wait for the device."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--only", "cory-gpt2-large"]
    subprocess.run([*command, "--output", str(tmp_path / "gpu")], check=True, env=os.environ)
    assert "- device: " in (tmp_path / "gpu.md").read_text()
