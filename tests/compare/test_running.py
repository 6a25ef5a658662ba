"""Runs as processes: side by side, continued, reused, and reported when they fail.

A child takes seconds to import torch, so most of what starts one is marked slow.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from filelock import FileLock
from rich.console import Console

from cory.cli import main
from cory.compare import load_results
from cory.compare.plan import Comparison, PlannedRun
from cory.compare.progress import MatrixProgress, last_step
from cory.compare.running import failure, is_finished, next_run, run_all, run_comparison, start
from cory.team.metrics import read_metrics
from tests.compare.made_up import comparison, planned, write_runs

REWARDS = """
def letters(completions, **columns):
    return [sum(sign.isalpha() for sign in text) / (1 + len(text)) for text in completions]

def broken(completions, **columns):
    raise KeyError("gold")
"""


@pytest.fixture
def tiny(tiny_gpt2_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """A base that trains in a fraction of a second, once everything is imported."""
    Dataset.from_dict({"prompt": [f"Film {row} is" for row in range(40)]}).to_json(
        str(tmp_path / "films.jsonl")
    )
    (tmp_path / "rewards.py").write_text(REWARDS)
    return {
        "model_name_or_path": str(tiny_gpt2_dir),
        "dataset_name": str(tmp_path / "films.jsonl"),
        "reward_funcs": [f"{tmp_path / 'rewards.py'}:letters"],
        "max_steps": 2,
        "eval_steps": 1,
        "batch_size": 4,
        "max_completion_length": 4,
        "num_eval_queries": 4,
        "role_exchange_period": 1,
        "use_cpu": True,
    }


def words(base: dict[str, Any], output_dir: Path, *more: str) -> list[str]:
    """`cory compare` with a base given as options."""
    options = [
        word
        for name, value in base.items()
        for word in (f"--{name}", str(value[0] if isinstance(value, list) else value))
    ]
    return ["compare", *options, "--output_dir", str(output_dir), *more]


def silent(runs: list[PlannedRun]) -> tuple[MatrixProgress, io.StringIO]:
    out = io.StringIO()
    return MatrixProgress(runs, is_finished, Console(file=out, width=200)), out


def test_one_run_end_to_end(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a command whose parts work and whose whole does not."""
    out = tmp_path / "out"
    main(words(tiny, out, "--arms", "cory", "--seeds", "7"))
    table = load_results(out)
    assert table["agent"].unique().tolist() == ["agent_0", "agent_1"]
    assert sorted(table["step"].unique()) == [0, 1, 2]
    assert table["total_samples"].max() == 2 * 2 * 4
    assert table["total_seconds"].max() > 0
    (run,) = (out / "runs" / "cory").iterdir()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-2"]
    assert "saved" in (run / "run.log").read_text()
    printed = capsys.readouterr()
    assert "agent_1" in printed.out
    assert "one seed" in printed.err
    assert {path.name for path in out.glob("plots/*.png")} == {"curves.png", "frontier.png"}


@pytest.mark.slow
def test_runs_share_the_answers_of_the_initial_model(tiny: dict[str, Any], tmp_path: Path) -> None:
    """Prevents a comparison that evaluates one model as often as it has runs."""
    out = tmp_path / "out"
    main(words(tiny, out, "--arms", "ppo,cory", "--seeds", "0"))
    assert len(list((out / "initial_answers").glob("*.json"))) == 1
    table = load_results(out)
    first = table[table["step"] == 0]
    assert len(first) == 1 + 2
    for measure in ("task_reward", "kl", "distinct_2", "entropy"):
        assert first[measure].nunique() == 1


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    """Prevents hours from being spent twice; nothing here could be trained at all."""
    runs = planned(tmp_path)
    write_runs(runs)
    progress, out = silent(runs)
    with progress:
        assert run_all(runs, 2, progress) == []
    assert "4 runs, 4 of them done before" in out.getvalue()


def test_the_metrics_of_a_run_are_read_once_at_the_start(tmp_path: Path) -> None:
    """Prevents a comparison of many finished runs from starting twice as slowly as it could."""
    runs, asked = planned(tmp_path), list[PlannedRun]()
    write_runs(runs)

    def ask(run: PlannedRun) -> bool:
        asked.append(run)
        return True

    with MatrixProgress(runs, ask, Console(file=io.StringIO())) as progress:
        assert run_all(runs, 2, progress) == []
    assert asked == runs


@pytest.mark.parametrize("last", [None, 2])
def test_a_run_is_finished_when_its_last_evaluation_is_there(
    last: int | None, tmp_path: Path
) -> None:
    """Prevents a run that was cut off from being taken for a result."""
    runs = planned(tmp_path)
    assert not any(map(is_finished, runs))
    write_runs(runs, last_step=last)
    assert all(is_finished(run) == (last is None) for run in runs)


def test_a_directory_of_another_experiment_is_refused(tmp_path: Path) -> None:
    """Prevents results under settings that are not those of the comparison."""
    runs = planned(tmp_path)
    write_runs(runs)
    config = runs[1].directory / "config.yaml"
    config.write_text(config.read_text().replace("gamma: 1.0", "gamma: 0.9"))
    progress, _ = silent(runs)
    with progress, pytest.raises(ValueError, match=r"another experiment \(gamma differ\)"):
        run_all(runs, 2, progress)


def test_two_comparisons_do_not_share_a_directory(tmp_path: Path) -> None:
    """Prevents two processes from writing one run."""
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(ValueError, match="another `cory compare` works in"),
    ):
        run_comparison(comparison(), tmp_path)


def test_a_run_that_somebody_trains_is_waited_for(tmp_path: Path) -> None:
    """Prevents a collision with a training that a killed comparison left, counted as a failure."""
    runs = planned(tmp_path)
    write_runs(runs[2:])
    waiting = deque(runs[:3])
    progress, out = silent(runs)
    for run in runs[:2]:
        run.directory.mkdir(parents=True)
    with progress, FileLock(runs[0].directory / ".lock"):
        assert next_run(waiting, progress) == runs[1]
        assert next_run(waiting, progress) is None, "the third was finished meanwhile"
        assert list(waiting) == runs[:1]
    assert next_run(waiting, progress) == runs[0]
    assert out.getvalue().count("waiting for its end") == 1
    assert "[3/4] done" in out.getvalue()


@pytest.mark.slow
def test_a_killed_comparison_leaves_no_training(tiny: dict[str, Any], tmp_path: Path) -> None:
    """Prevents an orphan that trains on, and that the same command would collide with."""
    base = {**tiny, "max_steps": 400, "save_steps": 2, "eval_steps": 200}
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cory", *words(base, out, "--arms", "ppo", "--seeds", "0")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/ppo/*/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    (run,) = out.glob("runs/ppo/*")
    with FileLock(run / ".lock", timeout=20):
        assert 0 < last_step(run / "metrics.jsonl") < 400
    log = (run / "run.log").read_text()
    assert "SIGTERM: will save after this iteration and stop" in log
    assert "--resume goes on there" in log


def test_a_failure_shows_the_end_of_the_log_and_how_to_see_it(tmp_path: Path) -> None:
    """Prevents "run failed", after which a user must know where logs are."""
    (run, *_) = planned(tmp_path)
    run.directory.mkdir(parents=True)
    (run.directory / "run.log").write_text("\n".join(f"line {number}" for number in range(99)))
    report = failure(run, 2)
    assert "exit status 2" in report
    assert "line 98" in report
    assert "line 80" not in report
    assert f"cory train --config {run.directory / 'config.yaml'} --resume --traceback" in report


def test_progress_counts_runs_and_reads_their_steps(tmp_path: Path) -> None:
    """Prevents a bar that stands still, or a record that is half written from stopping it."""
    runs = planned(tmp_path)
    write_runs(runs[:1])
    write_runs(runs[1:2], last_step=2)
    metrics = runs[1].directory / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"step": 3')
    assert last_step(metrics) == 3
    assert last_step(tmp_path / "absent.jsonl") == 0
    progress, out = silent(runs)
    with progress:
        progress.started(runs[1])
        progress.update([runs[1]])
        (matrix, _) = progress.progress.tasks
        # The team's 2 × 10 × 4 answers are three quarters done, of 80 + 40 + 80 to do.
        assert (matrix.completed, matrix.total) == (60, 200)
        assert matrix.fields["state"] == "1/4 done, 1 running"
        progress.failed(runs[1], "because")
        progress.started(runs[2])
        progress.finished(runs[2])
    assert "[2/4] failed: cory · η 0.05 · lr 1e-05 · seed 0\nbecause" in out.getvalue()
    assert "[3/4] done: ppo" in out.getvalue()


@pytest.mark.slow
def test_more_seeds_add_to_what_is_there(tiny: dict[str, Any], tmp_path: Path) -> None:
    """Prevents a second comparison from repeating the first, and arms from being unequal."""
    out = tmp_path / "out"
    main(words(tiny, out, "--arms", "ppo,cory", "--seeds", "0", "--workers", "2"))
    before = {path: path.read_bytes() for path in out.glob("runs/*/*/metrics.jsonl")}
    main(words(tiny, out, "--arms", "ppo,cory", "--seeds", "0,1"))
    table = load_results(out)
    assert len(before) == 2
    assert all(path.read_bytes() == text for path, text in before.items())
    assert len(table) == 2 * (1 + 2) * 3
    # Before the first iteration all are the initial model, on the same queries.
    start = table[table["step"] == 0]
    assert (start.groupby("seed")["task_reward"].nunique() == 1).all()
    assert start["task_reward"].nunique() == 2, "seeds sample other answers"


@pytest.mark.slow
def test_a_failed_run_is_reported_and_stops_nobody(
    tiny: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a night's matrix from being lost to one bad arm."""
    (tmp_path / "comparison.yaml").write_text(
        json.dumps(
            {
                "base": {key: value for key, value in tiny.items() if key != "reward_funcs"},
                "arms": {
                    "bad": {"reward_funcs": [f"{tmp_path / 'rewards.py'}:broken"]},
                    "good": {"reward_funcs": tiny["reward_funcs"]},
                },
                "allow": ["reward_funcs"],
                "seeds": [0],
            }
        )
    )
    out = tmp_path / "out"
    command = ["compare", "--config", str(tmp_path / "comparison.yaml"), "--output_dir", str(out)]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--workers", "1"])
    assert stopped.value.code == 1
    errors = capsys.readouterr().err
    assert "Reward function 'broken' raised KeyError: 'gold'" in errors
    assert "1 runs failed; the same command tries them again" in errors
    assert load_results(out)["arm"].unique().tolist() == ["good"]


@pytest.mark.slow
def test_a_request_to_end_ends_the_runs_and_the_next_command_continues(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    """Prevents orphans that go on writing, runs that begin anew, and a stop without tables."""
    base = {**tiny, "max_steps": 60, "save_steps": 2, "eval_steps": 20}
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cory", *words(base, out, "--arms", "ppo", "--seeds", "0")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/ppo/*/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 143
    assert load_results(out)["arm"].unique().tolist() == ["ppo"]
    assert (out / "report.html").is_file()
    (run,) = out.glob("runs/ppo/*")
    stopped_at = last_step(run / "metrics.jsonl")
    time.sleep(1)
    assert stopped_at == last_step(run / "metrics.jsonl") < 60, "the child has gone, too"
    first = [record for record in read_metrics(run / "metrics.jsonl") if record["step"] == 1]
    main(words(base, out, "--arms", "ppo", "--seeds", "0"))
    records = read_metrics(run / "metrics.jsonl")
    assert [record for record in records if record["step"] == 1] == first, "it was not begun anew"
    steps = [record["step"] for record in records if "total_samples" in record]
    assert steps == list(range(1, 61))


def test_children_share_out_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents every child from starting a thread per core."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text('#!/bin/sh\necho "threads: $OMP_NUM_THREADS $*"\nexit 3\n')
    (tmp_path / "python").chmod(0o755)
    runs = planned(tmp_path / "out", seeds=[0])
    progress, out = silent(runs)
    with progress:
        assert run_all(runs, os.cpu_count() or 1, progress) == runs
    assert "threads: 1 -m cory train --config" in out.getvalue()
    assert "exit status 3" in out.getvalue()


def test_the_public_names() -> None:
    """Prevents a lazy export that points to a name its module no longer has."""
    import cory.compare

    assert all(getattr(cory.compare, name) is not None for name in cory.compare.__all__)
    assert cory.compare.Comparison is Comparison
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = cory.compare.absent  # pyright: ignore[reportAttributeAccessIssue]


def test_a_log_goes_through_no_link(tmp_path: Path) -> None:
    """Prevents a stranger's comparison from writing into a file outside of it."""
    run = planned(tmp_path)[0]
    run.directory.mkdir(parents=True)
    (tmp_path / "victim").write_text("precious")
    (run.directory / "run.log").symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match=r"run\.log is a link, to .*victim"):
        start(run, 1, 0)
    assert (tmp_path / "victim").read_text() == "precious"
