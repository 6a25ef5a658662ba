"""Full disks, read-only directories, two processes in one directory."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import TrainerCallback

from cory.cli import main
from cory.compare.summary import write_tables
from cory.config import CORYConfig
from cory.io.checksums import damage
from cory.io.files import OutputError, alone_in, replace_text, replacing
from cory.io.terminal import say
from cory.team.metrics import MetricsFile, read_metrics
from cory.training.checkpoint import STATE, Checkpoints
from cory.training.records import load_config
from cory.training.runs import Subject, save_merged
from tests.compare.made_up import comparison, planned, write_runs
from tests.tiny_runs import records, trainer


def mounted(directory: Path, *options: str) -> Generator[Path]:
    """A directory while something is mounted there; the test is skipped where that is forbidden."""
    directory.mkdir(exist_ok=True)
    mount = ["mount", *options, str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs to be allowed to mount: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        # Lazily: tensors that were loaded from there may still be mapped.
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A disk of five MiB: for two checkpoints of the tiny model, not for three."""
    yield from mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=5m", "tmpfs")


@pytest.fixture
def read_only(tmp_path: Path) -> Generator[Path]:
    """A directory that nobody can write, root included."""
    (tmp_path / "source").mkdir()
    directory = tmp_path / "read-only"
    yield from mounted(directory, "--bind", "-o", "ro", str(tmp_path / "source"))


def sound_steps(run: Path) -> list[int]:
    checkpoints = Checkpoints(run, limit=None)
    assert all(damage(checkpoints.path(step), STATE) is None for step in checkpoints.steps())
    return checkpoints.steps()


def test_a_full_disk(tiny_gpt2_dir: Path, small_disk: Path) -> None:
    """Prevents a half-written checkpoint, a lost one, and a run that cannot go on afterwards."""
    run = small_disk / "run"
    options: dict[str, Any] = {"max_steps": 60, "save_steps": 1, "num_ppo_epochs": 1}
    team = trainer(tiny_gpt2_dir, run, **options)
    with pytest.raises(OutputError, match=r"could not be written: .*[Nn]o space left.*--resume"):
        team.train()
    steps = sound_steps(run)
    assert steps == [1, 2]
    assert not list(run.glob("checkpoints/.*.partial")), "the rest was removed, for room"
    # More room: a limit that removes all but one of the old checkpoints.
    more = {**options, "max_steps": 4, "save_total_limit": 1}
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    trainer(tiny_gpt2_dir, run, resume=True, **more).train()
    assert sound_steps(run) == [4]
    assert [line["step"] for line in records(run)] == [1, 2, 3, 4]


@contextmanager
def largest_file(size: int | None) -> Generator[None]:
    """Context in which no file may become larger; Linux raises EFBIG, as Python ignores SIGXFSZ.

    The limit is that of the process, so it must end before pytest writes on: where its output is a
    file, one more dot would be beyond it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class LimitFiles(TrainerCallback):
    """Lets no file become larger than 60 KB from a step on."""

    def __init__(self, step: int, stack: ExitStack) -> None:
        self.step, self.stack = step, stack

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            self.stack.enter_context(largest_file(60_000))


def test_a_checkpoint_that_cannot_be_written(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the same where nothing may be mounted: a write fails in the middle of a file."""
    refused = pytest.raises(OutputError, match=r"step-3 could not be written: .*File too large")
    with refused, ExitStack() as stack:
        limit = LimitFiles(3, stack)
        trainer(tiny_gpt2_dir, tmp_path, callbacks=[limit], max_steps=5, save_steps=1).train()
    assert sound_steps(tmp_path) == [1, 2]
    assert not list(tmp_path.glob("checkpoints/.*.partial"))
    trainer(tiny_gpt2_dir, tmp_path, resume=True, max_steps=5, save_steps=1).train()
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3, 4, 5]


def write_half(path: Path) -> None:
    with replacing(path) as partial:
        partial.write_text("half")
        raise KeyError


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    """Prevents a config.yaml of half a line, after which a run cannot even be resumed."""
    path = tmp_path / "config.yaml"
    replace_text(path, "old")
    refused = pytest.raises(OutputError, match=r"config.yaml could not .*repeat the command")
    with refused, largest_file(10):
        replace_text(path, "new" * 100)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(KeyError):
        write_half(path)
    assert path.read_text() == "old"


def test_metrics_survive_a_full_disk(tmp_path: Path) -> None:
    """Prevents records that are lost because one more could not be written."""
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, first_step=-1)
    file.write({"step": 1})
    limit = path.stat().st_size + 5
    refused = pytest.raises(OutputError, match=r"metrics.jsonl could not be written")
    with refused, largest_file(limit):
        file.write({"step": 2})
    assert read_metrics(path) == [{"step": 1}]
    with pytest.raises(OutputError), largest_file(limit):
        MetricsFile(path, first_step=2).write({"step": 2})
    assert read_metrics(path) == [{"step": 1}]


def tables(directory: Path) -> None:
    runs = planned(directory)
    write_runs(runs)
    write_tables(comparison(), runs, directory)


def merged_model(directory: Path) -> None:
    names = {f"agent_{index}": directory / f"checkpoints/step-1/agent_{index}" for index in (0, 1)}
    save_merged(Subject(load_config(directory), names), directory / "merged")


@pytest.mark.parametrize(
    ("write", "limit", "left"),
    [(tables, 4_000, "results.parquet"), (merged_model, 60_000, "merged")],
)
def test_what_is_written_for_people_is_whole_or_not_there(
    tiny_gpt2_dir: Path, tmp_path: Path, write: Any, limit: int, left: str
) -> None:
    """Prevents half a table, half a model, and what is left of them on a full disk."""
    trainer(tiny_gpt2_dir, tmp_path, max_steps=1).train()
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=rf"{left} could not be .*make room"), largest_file(limit):
        write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {"runs"} == before
    write(tmp_path)
    assert (tmp_path / left).stat().st_size > 0


def test_a_read_only_directory(tiny_gpt2_dir: Path, read_only: Path) -> None:
    """Prevents minutes of loading before a run that could never have been saved."""
    with pytest.raises(ValueError, match=r"run': .*cannot be written.*choose another output_dir"):
        trainer(tiny_gpt2_dir, read_only / "run")


def test_a_directory_that_becomes_read_only(
    tiny_gpt2_dir: Path, tmp_path: Path, read_only: Path
) -> None:
    """Prevents a lost checkpoint where a disk turns read-only under a run, as after an error."""
    mounts: list[Generator[Path]] = []

    class TurnReadOnly(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                checkpoints = tmp_path / "run" / "checkpoints"
                mounts.append(mounted(checkpoints, "--bind", "-o", "ro", str(checkpoints)))
                next(mounts[0])

    options: dict[str, Any] = {"max_steps": 3, "save_steps": 1}
    team = trainer(tiny_gpt2_dir, tmp_path / "run", callbacks=[TurnReadOnly()], **options)
    with pytest.raises(OutputError, match=r"could not be written: .*[Rr]ead-only file system"):
        team.train()
    mounts[0].close()
    assert sound_steps(tmp_path / "run") == [1]
    trainer(tiny_gpt2_dir, tmp_path / "run", resume=True, **options).train()
    assert sound_steps(tmp_path / "run") == [1, 2, 3]


def test_a_file_in_the_place_of_the_directory(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents NotADirectoryError after the model is loaded."""
    (tmp_path / "taken").write_text("mine")
    for run in ("taken", "taken/run"):
        with pytest.raises(ValueError, match=r"taken is a file, not a directory; choose another"):
            trainer(tiny_gpt2_dir, tmp_path / run)
    assert (tmp_path / "taken").read_text() == "mine"


def test_the_command_line_says_what_the_disk_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a traceback, and a status that says the command was wrong."""

    def full(words: list[str]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "eval.json")

    monkeypatch.setattr("cory.cli.report.run", full)
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(tmp_path)])
    assert stopped.value.code == 3
    assert "No space left on device" in capsys.readouterr().err

    def away(words: list[str]) -> None:
        raise FileNotFoundError(errno.ENOENT, "not a fault of the disk")

    monkeypatch.setattr("cory.cli.report.run", away)
    with pytest.raises(FileNotFoundError):
        main(["report", str(tmp_path)])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_whose_output_the_disk_refuses(stream: str) -> None:
    """Prevents a traceback at the end of a command, and one that fails for what it only tells."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cory", "--help" if stream == "stdout" else "--helf"],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full},
            text=True,
        )
    assert done.returncode == (3 if stream == "stdout" else 2)
    if stream == "stdout":
        assert done.stderr.count("\n") == 1
        assert "No space left on device: make room" in done.stderr


def test_a_training_outlives_its_log(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a lost terminal, or a log on a full disk, from ending a training."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FullWhileItLogs(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            monkeypatch.setattr(sys, "stderr", Full())
            say("nobody reads this")

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            monkeypatch.undo()

    trainer(tiny_gpt2_dir, tmp_path, max_steps=1, callbacks=[FullWhileItLogs()]).train()
    assert sound_steps(tmp_path) == [1]


HOLDER = """
import os, sys, time
from pathlib import Path
from cory.io.files import alone_in
with alone_in(Path(sys.argv[1]), "cory train"):
    if sys.argv[2] == "fork" and os.fork() == 0:
        time.sleep(600)
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_a_second_process_is_refused_until_the_first_is_gone(
    how: str, tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents two processes from writing one run, and a killed one from locking it for ever.

    A process that the first has forked, as a reward function may, lives on and must hold nothing.
    """
    run = tmp_path / "run"
    trainer(tiny_gpt2_dir, run, max_steps=1).train()
    before = load_config(run)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run), how],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        with pytest.raises(ValueError, match=r"another `cory train` works in .*run: wait for it"):
            trainer(tiny_gpt2_dir, run, max_steps=2, resume=True)
        assert load_config(run) == before
        process.kill()
        process.wait()
        trainer(tiny_gpt2_dir, run, max_steps=2, resume=True).train()
        assert [line["step"] for line in records(run)] == [1, 2]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_two_trainers_of_one_process_are_kept_apart(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a lock that a process does not hold against itself, as in a notebook."""
    first = trainer(tiny_gpt2_dir, tmp_path, max_steps=1)
    second = trainer(tiny_gpt2_dir, tmp_path, max_steps=1)
    with alone_in(tmp_path, "cory train"), pytest.raises(ValueError, match="another `cory train`"):
        first.train()
    first.train()
    assert not (tmp_path / "checkpoints" / "step-2").exists()
    assert isinstance(second.args, CORYConfig)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["max_steps"] == 1
    assert json.loads((tmp_path / "environment.jsonl").read_text())["after_step"] == 0
