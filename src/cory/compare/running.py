"""The runs of a comparison as processes of their own, side by side; what is done stays done."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
import yaml

from cory.compare.plan import Comparison, PlannedRun, result_differences
from cory.compare.progress import MatrixProgress
from cory.compare.summary import write_tables
from cory.config.saved import CONFIG_FILE, saved_settings
from cory.io.files import alone_in, is_taken, path_inside, refuse_links, replace_text
from cory.io.signals import ON_A_LINE, Stopped, lifeline
from cory.io.terminal import say
from cory.team.metrics import read_metrics
from cory.training.initial import SHARED_ANSWERS

POLL_SECONDS = 0.2
SECONDS_TO_STOP = 20.0
"""For runs to finish an iteration and save it; schedulers often kill after 30."""
LOG = "run.log"
INITIAL_ANSWERS = "initial_answers"
"""Where the runs of a comparison share the initial model's answers to held-out queries."""


def run_comparison(
    comparison: Comparison, output_dir: Path | str, workers: int | None = None
) -> list[PlannedRun]:
    """Run what is not done yet, then write the tables; so, too, when interrupted.

    Args:
        comparison: arms and axes.
        output_dir: runs that are there already are used or continued.
        workers: runs at a time; None: one per core, or one where there is an accelerator.

    Returns:
        the runs that failed.

    Raises:
        ValueError: another process works there, or a directory holds another experiment, or a run.
    """
    directory = Path(output_dir)
    if (directory / CONFIG_FILE).exists():
        raise ValueError(
            f"{directory} holds a single run ({CONFIG_FILE} is there): choose another output_dir"
        )
    directory.mkdir(parents=True, exist_ok=True)
    runs = comparison.runs(directory)
    for run in runs:
        path_inside(directory, str(run.directory.relative_to(directory)))
    shared = torch.accelerator.is_available() and not comparison.base_config.use_cpu
    with alone_in(directory, "cory compare"):
        replace_text(
            directory / "comparison.yaml",
            yaml.safe_dump(comparison.to_dict(), sort_keys=False, allow_unicode=True),
        )
        try:
            with MatrixProgress(runs, is_finished) as progress:
                failed = run_all(runs, workers or (1 if shared else _cores()), progress)
        except (KeyboardInterrupt, Stopped):
            # What was measured so far can be looked at; there may be nothing yet.
            with suppress(ValueError):
                write_tables(comparison, runs, directory)
            raise
        write_tables(comparison, runs, directory)
    return failed


def run_all(runs: Sequence[PlannedRun], workers: int, progress: MatrixProgress) -> list[PlannedRun]:
    """Run all that is not finished, `workers` at a time; a failed run does not stop the others.

    Returns:
        the runs that failed.

    Raises:
        ValueError: a directory was made by other settings, as after a change of defaults.
    """
    waiting = deque(run for run in runs if run in progress.to_do)
    for run in waiting:
        if names := _differences(run):
            raise ValueError(
                f"{run.directory} holds another experiment ({', '.join(names)} differ): remove it, "
                "or choose another output_dir"
            )
    running: dict[PlannedRun, subprocess.Popen[bytes]] = {}
    failed: list[PlannedRun] = []
    with lifeline() as line:
        try:
            while waiting or running:
                while len(running) < workers and (run := next_run(waiting, progress)) is not None:
                    running[run] = start(run, max(1, _cores() // workers), line)
                    progress.started(run)
                time.sleep(POLL_SECONDS)
                for run in [run for run, process in running.items() if process.poll() is not None]:
                    status = running.pop(run).returncode
                    if status or not is_finished(run):
                        failed.append(run)
                        progress.failed(run, failure(run, status))
                    else:
                        progress.finished(run)
                progress.update(running)
        finally:
            _stop(running.values())
    return failed


def next_run(waiting: deque[PlannedRun], progress: MatrixProgress) -> PlannedRun | None:
    """Take the next run to start; one that another process is training waits for its end."""
    for run in list(waiting):
        if is_taken(run.directory):
            progress.waits(run)
            continue
        waiting.remove(run)
        if not is_finished(run):
            return run
        progress.started(run)
        progress.finished(run)
    return None


def is_finished(run: PlannedRun) -> bool:
    """Whether a run's last evaluation is written down, of the experiment that is planned."""
    return _differences(run) == [] and any(
        record["step"] == run.args.max_steps and "eval/agent_0/task_reward" in record
        for record in read_metrics(run.directory / "metrics.jsonl")
    )


def start(run: PlannedRun, threads: int, line: int) -> subprocess.Popen[bytes]:
    """Start, or continue, a run as a process that writes to its run.log.

    It saves and ends when this process has ended, however it did: `line` is of `lifeline`.
    """
    run.directory.mkdir(parents=True, exist_ok=True)
    refuse_links(run.directory, LOG)
    config = run.directory / "config.yaml"
    replace_text(config, yaml.safe_dump(run.args.to_dict(), sort_keys=False, allow_unicode=True))
    environment = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        ON_A_LINE: "1",
        SHARED_ANSWERS: str(run.comparison_directory / INITIAL_ANSWERS),
    }
    with (run.directory / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command(run)],
            stdin=line,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            # Ctrl-C in a terminal is for all its processes; runs are told by `_stop` alone.
            start_new_session=True,
        )


def command(run: PlannedRun) -> list[str]:
    """The words that start a run by hand."""
    return ["cory", "train", "--config", str(run.directory / "config.yaml"), "--resume"]


def failure(run: PlannedRun, status: int, num_lines: int = 12) -> str:
    """What a person needs to find out why a run failed."""
    log = run.directory / LOG
    lines = log.read_text(errors="replace").splitlines()[-num_lines:]
    return "\n".join(
        [
            f"failed: {run} (exit status {status}); the end of {log}:",
            *(f"  │ {line}" for line in lines),
            f"  by hand: {shlex.join([*command(run), '--traceback'])}",
        ]
    )


def _differences(run: PlannedRun) -> list[str] | None:
    """What the settings in a run's directory differ in from the plan; None: nothing is there."""
    saved = saved_settings(run.directory)
    return None if saved is None else result_differences(saved, run.args)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask what still runs to save and end, and end it where that takes too long.

    A further signal meanwhile ends everything at once; checkpoints are atomic, so what is lost is
    the iterations since the last.
    """
    alive = [process for process in processes if process.poll() is None]
    if alive:
        say(
            f"cory: {len(alive)} runs have {SECONDS_TO_STOP:.0f} s to save and end; a second "
            "signal ends them at once"
        )
    try:
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + SECONDS_TO_STOP
        for process in alive:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in alive:
            process.kill()
            process.wait()
