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
from benchmarks.goals import gpu_class
from benchmarks.gpu_tests import Outcome
from benchmarks.limits import decode_limit, decode_rate, update_utilisation
from benchmarks.measurement import Measurement
from benchmarks.meter import Meter
from benchmarks.running import Bench, Budget, Results
from benchmarks.workers import ours
from benchmarks.workers.common import Work
from cory.tasks import for_task

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


def test_goals_by_hand(make_measurement: Callable[..., Measurement]) -> None:
    """Prevents a goal of one card on another, and one of seconds in minutes."""
    [paper] = [case for case in gpu.CASES if case.name == "cory-gpt2-large"]
    # An iteration takes 2 + 4 s: 100 of them ten minutes.
    measured = make_measurement(paper.replace(device="cuda"))
    text = gpu.render(Results({paper.name: measured}), "H200")
    run = "| the paper's run on IMDB: 100 iterations of cory-gpt2-large | 10.0 min |"
    assert f"{run}  | ≤ 5.0 min |  | missed by 100% |" in text
    assert f"{run}  |  |  | no goal here |" in gpu.render(Results({paper.name: measured}), "GPU")
    decoding = f"| {paper.name}: decoding, share of memory's limit | "
    share = f"{decode_rate(measured) / decode_limit(measured):.1%}"
    assert f"{decoding}{share} |  | ≥ 60.0% |" in text
    assert gpu_class("NVIDIA H200") == "H200"
    assert gpu_class("NVIDIA A100-SXM4-80GB") == gpu_class(None) == "GPU"


def test_the_paper_s_run_is_the_paper_s() -> None:
    """Prevents minutes of another experiment under its name; ours has longer answers."""
    [case] = [case for case in gpu.CASES if case.name == "cory-gpt2-large"]
    paper = for_task("imdb", preset="paper")
    assert case.shape == paper.model_name_or_path
    assert case.batch_size == paper.batch_size
    assert case.num_agents == paper.num_agents
    assert case.num_epochs == paper.num_ppo_epochs
    assert case.num_tokens >= paper.max_completion_length
    assert paper.max_steps == gpu.PAPER_STEPS


def test_cases_come_in_the_order_of_their_worth() -> None:
    """Prevents a run that is cut off before the cases it was made for, or a pair that is split."""
    names = [case.name for case in gpu.CASES]
    firsts = ["cory-smollm2", "cory-gpt2-large", "cory-llama-lora", "cory-llama-nf4"]
    assert sorted(firsts, key=names.index) == firsts
    for mine, theirs in gpu.PAIRS:
        assert names.index(theirs) == names.index(mine) + 1


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
    text = gpu.render(Results({case.name: measured}, {"other": "no wheel"}), "GPU")
    assert f"| {case.name} | {tiny.shape}" in text
    assert "- other: no wheel" in text


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a GPU benchmark of a CPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.find_device(is_tiny=True) == "cpu"
    with pytest.raises(SystemExit, match="--tiny"):
        gpu.find_device(is_tiny=False)


def test_a_run_writes_after_every_step_and_says_what_no_longer_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_measurement: Callable[..., Measurement]
) -> None:
    """Prevents ten minutes of a GPU that leave nothing, because they were not enough."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ticks = [0.0]
    monkeypatch.setattr(gpu, "Budget", lambda seconds: Budget(seconds, lambda: ticks[0]))
    pages: list[str] = []

    def measure(bench: Bench, case: Case) -> Measurement:
        pages.append((tmp_path / "gpu.md").read_text())
        ticks[0] += 250
        return make_measurement(case)

    monkeypatch.setattr(Bench, "measure", measure)
    names = ["tests", "cory-smollm2", "grpo-smollm2", "trl-grpo-smollm2", "cory-gpt2-large"]
    output = ["--output", str(tmp_path / "gpu"), "--seconds", "500"]
    monkeypatch.setattr(gpu, "refuse", lambda case: None)
    gpu.main(["--tiny", *output, "--only", *names])
    assert "tests marked gpu: not run: there is no GPU here" in pages[0]
    assert "| cory-smollm2 | cory 0.1 ppo |" in pages[1]
    text = (tmp_path / "gpu.md").read_text()
    assert "- trl-grpo-smollm2: skipped: 0 s of 500 s were left" in text
    assert "- cory-gpt2-large: skipped: 0 s of 500 s were left" in text
    assert '"grpo-smollm2"' in (tmp_path / "gpu.json").read_text()


def test_tests_that_fail_are_told_and_do_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a broken decoder from costing all measurements, or from going unnoticed."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    failed = Outcome("1 failed", "assert tokens == replayed", failed=True)
    monkeypatch.setattr(gpu, "run_gpu_tests", lambda device, budget: failed)
    with pytest.raises(SystemExit, match="tests marked gpu: 1 failed\nassert tokens"):
        gpu.main(["--tiny", "--only", "tests", "--output", str(tmp_path / "gpu")])
    assert "- tests marked gpu: 1 failed" in (tmp_path / "gpu.md").read_text()
    assert (tmp_path / "gpu-tests.txt").read_text() == failed.output


@pytest.mark.slow
def test_a_tiny_run_writes_its_results(tmp_path: Path) -> None:
    """Prevents a run that fails at its last step; TRL's case runs where TRL is installed."""
    chosen = ["grpo-gpt2-large", "trl-grpo-gpt2-large", "cory-llama-nf4"]
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--only", *chosen]
    subprocess.run([*command, "--output", str(tmp_path / "gpu")], check=True, env=os.environ)
    text = (tmp_path / "gpu.md").read_text()
    assert "| grpo-gpt2-large | tiny" in text
    assert "| cory-llama-nf4 | tiny-llama LoRA NF4" in text
    assert "| trl-grpo-gpt2-large | trl" in text or "TRL is not installed" in text


@pytest.mark.gpu
def test_a_gpu_is_measured(tmp_path: Path) -> None:
    """Prevents clocks that do not wait for the device."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--only", "cory-gpt2-large"]
    subprocess.run([*command, "--output", str(tmp_path / "gpu")], check=True, env=os.environ)
    text = (tmp_path / "gpu.md").read_text()
    assert "- device: " in text
    assert "a CPU in its place" not in text
    assert "| cory-gpt2-large | tiny" in text
