"""`benchmarks.workers`: our trainer and TRL's do the work that is asked for, and count it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from benchmarks import iteration
from benchmarks.cases import Case, write_case
from benchmarks.files import read_json, read_texts
from benchmarks.measurement import Measurement, check_same_work, measurement_from
from benchmarks.meter import Meter
from benchmarks.running import Bench, Budget, MeasuringError, Results
from benchmarks.workers import ours
from benchmarks.workers.common import Work, run_worker

GRPO = {"algorithm": "grpo", "num_generations": 4, "num_epochs": 1, "num_agents": 1, "steps": 1}


def measure(module: Callable[[Work], Measurement], case: Case, files: Path) -> Measurement:
    with closing(Meter()) as meter:
        measured = module(Work(case, files, meter))
    measured.check()
    return measured


def test_our_iterations_are_measured(tiny_case: Case, tiny_files: Path) -> None:
    """Prevents phases that stay empty because a method was renamed, and warm-ups that count."""
    measured = measure(ours.measure, tiny_case, tiny_files)
    assert len(measured.laps) == tiny_case.steps
    for phase in ("generate", "score", "reward", "update"):
        assert measured.phase_seconds(phase) > 0
    assert measured.answer_tokens == 2 * 8 * 3
    # The observer's prompt holds the pioneer's, and its answer.
    assert measured.total_tokens > 2 * measured.answer_tokens
    assert measured.optimizer_steps == 2 * 4
    assert measured.times_floor > 1


def test_a_worker_reads_its_case_and_writes_what_it_measured(
    tiny_case: Case, tiny_files: Path, tmp_path: Path
) -> None:
    """Prevents a process that measures another case than it was given."""
    case, paths = tiny_case.replace(**GRPO), [tmp_path / "case.json", tmp_path / "result.json"]
    write_case(case, paths[0])
    threads = torch.get_num_threads()
    run_worker(ours.measure, [str(paths[0]), str(tiny_files), str(paths[1])])
    assert torch.get_num_threads() == threads == case.threads
    assert measurement_from(read_json(tmp_path, "result.json")).case == case


@pytest.mark.slow
def test_a_worker_runs_in_the_process_that_the_table_describes(
    tiny_case: Case, tmp_path: Path
) -> None:
    """Prevents a worker that only works inside of the tests' process."""
    bench = Bench(tmp_path, read_texts(None))
    case = tiny_case.replace(**GRPO)
    results = Results()
    assert len(list(bench.run([case], lambda case: None, results))) == 1
    assert results.reasons == {}
    assert results.measured[case.name].answer_tokens == 8 * 3


def test_a_case_that_fails_does_not_end_the_run(tiny_case: Case, tmp_path: Path) -> None:
    """Prevents ten minutes of measuring from being lost to a peer that is not installed."""
    module = "benchmarks.workers.trl_ppo"
    cases = [tiny_case.replace(name=name, side="trl", num_agents=1) for name in ("one", "two")]
    absent = Bench(tmp_path, read_texts(None), {module: "no-such-python"})
    results = Results()
    assert len(list(absent.run(cases, lambda case: None, results))) == 2
    assert results.reasons == dict.fromkeys(("one", "two"), "there is no no-such-python")
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho 'ValueError: no such model' >&2\nexit 1\n")
    failing.chmod(0o700)
    bench = Bench(tmp_path, read_texts(None), {module: str(failing)})
    assert list(bench.run(cases[:1], lambda case: None, results)) == [
        f"one: {module} failed: ValueError: no such model"
    ]


def test_a_case_that_does_not_fit_into_what_is_left_is_skipped(
    tiny_case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a case that is begun when the like of it took longer than is left."""
    ticks = [0.0]
    budget = Budget(100, clock=lambda: ticks[0])
    bench, results = Bench(tmp_path, read_texts(None), budget=budget), Results()
    monkeypatch.setattr("time.perf_counter", lambda: ticks[0])

    def measure(bench: Bench, case: Case) -> Measurement:
        ticks[0] += 60
        return None  # type: ignore[return-value]

    monkeypatch.setattr(Bench, "measure", measure)
    names = {"one": "tiny", "two": "tiny", "other": "tiny-llama"}
    cases = [tiny_case.replace(name=name, shape=shape) for name, shape in names.items()]
    assert list(bench.run(cases, lambda case: None, results)) == [
        "one: 60 s",
        "two: skipped: 40 s of 100 s were left, and it needs more than 60 s",
        "other: 60 s",
    ]


def test_a_case_is_ended_with_the_budget(tiny_case: Case, tmp_path: Path) -> None:
    """Prevents a run that goes on until somebody else ends it, and with it what it measured."""
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o700)
    module = "benchmarks.workers.trl_ppo"
    case = tiny_case.replace(side="trl", num_agents=1)
    bench = Bench(tmp_path, read_texts(None), {module: str(slow)}, Budget(8))
    with pytest.raises(MeasuringError, match=f"{module} was ended after [1-8] s"):
        bench.measure(case)
    with pytest.raises(MeasuringError, match="no time was left once its model had been made"):
        bench.measure(case)


def test_what_says_nothing_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents numbers of two cores on one, and of bfloat16 that is emulated."""
    monkeypatch.setattr(iteration, "num_cores", lambda: 1)
    monkeypatch.setattr(iteration, "bf16_speedup", lambda: 0.02)
    case = Case("x")
    assert iteration.refuse(case) is None
    assert iteration.refuse(case.replace(threads=2)) == "needs 2 cores, this process may use 1"
    assert "0.02 × the rate" in str(iteration.refuse(case.replace(bf16=True)))
    monkeypatch.setattr(iteration, "bf16_speedup", lambda: 1.9)
    assert iteration.refuse(case.replace(bf16=True)) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trl_s_grpo_does_the_same_work(tiny_case: Case, tiny_files: Path) -> None:
    """Prevents a comparison with a TRL that samples, reads or learns something else."""
    pytest.importorskip("trl")
    from benchmarks.workers import trl_grpo

    case = tiny_case.replace(**GRPO)
    mine = measure(ours.measure, case, tiny_files)
    other = tiny_case.replace(**{**asdict(case), "name": "trl", "side": "trl", "micro_batch": 4})
    theirs = measure(trl_grpo.measure, other, tiny_files)
    check_same_work(mine, theirs)
    for phase in ("generate", "score", "reward", "update"):
        assert theirs.phase_seconds(phase) > 0


@pytest.mark.slow
def test_the_command_writes_its_results(tmp_path: Path) -> None:
    """Prevents a command that fails when all is measured; its files are what is published."""
    command = [sys.executable, "-m", "benchmarks.iteration", "--tiny", "--only", "cory"]
    subprocess.run([*command, "--output", str(tmp_path / "out")], check=True, env=os.environ)
    text = (tmp_path / "out.md").read_text()
    assert "| cory | cory 0.1.0 ppo | tiny | 2 × 8 × 4 |" in text
    assert '"answer_tokens": 64' in (tmp_path / "out.json").read_text()
