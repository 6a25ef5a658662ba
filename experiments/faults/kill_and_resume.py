"""Kill a training with signal 9 again and again, resume it each time, and compare the result.

    python -m experiments.faults.kill_and_resume --kills 60

A kill strikes

- at any moment after the start, by the clock;
- while a checkpoint is being written, by the clock: soon after its directory appears;
- in a line of Python that saves, exchanges roles or writes records, chosen at random: the process
  counts the lines it executes in these rooms and kills itself at that one.

After every kill each checkpoint must have its checksums, and the next `cory train --resume` must go
on. The finished run must equal one that nobody disturbed, byte for byte: weights, optimizer
moments, random states, metrics, samples; all but what the clock says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from cory.cli import main as cory
from cory.io.files import damage
from cory.team.metrics import read_metrics
from cory.training.checkpoint import STATE, Checkpoints

SETTINGS = """
--task pocket-arithmetic --use_cpu --batch_size 4 --max_completion_length 4 --learning_rate 1e-4
--num_ppo_epochs 1 --role_exchange_period 2 --merge_on_exchange 0.5 --weight_average_decay 0.9
--kl_controller adaptive --normalize_rewards --elastic_reset_period 7 --log_samples_steps 5
--eval_steps 20 --num_eval_queries 4 --save_steps 2 --save_total_limit 3
""".split()
ROOMS = {
    "a line of saving": ("training/checkpoint.py", "io/files.py", "models/weights.py"),
    "a line of exchanging": ("team/averaging.py",),
    "a line of recording": ("team/metrics.py", "training/records.py", "training/samples.py"),
}
ANY_MOMENT, WRITING = "any moment", "writing a checkpoint"
KINDS = (ANY_MOMENT, WRITING, *ROOMS)
CLOCK = frozenset({"seconds/rollout", "seconds/update", "tokens_per_second", "total_seconds"})
LONGEST_WAIT = 120.0
SECONDS_TO_START = 2.0
PACKAGE = str(Path(sys.modules[Checkpoints.__module__].__file__ or "").parents[1])


class LineCounter:
    """Counts the lines that this process executes in some rooms.

    Args:
        rooms: files, by their paths in the package.
        fatal: number of the line at which the process kills itself; None: none.
    """

    def __init__(self, rooms: Sequence[str], fatal: int | None = None) -> None:
        self.paths = {os.path.join(PACKAGE, room) for room in rooms}  # noqa: PTH118
        self.fatal = fatal
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code: CodeType = frame.f_code
        return self._count if code.co_filename in self.paths else None

    def _count(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._count


def train(words: Sequence[str], log: Path, counters: Sequence[LineCounter] = ()) -> None:
    """`cory train`, as the main function of a process."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    (counter,) = counters or [None]
    sys.settrace(counter)
    cory(["train", *words])


def count_lines(words: Sequence[str], log: Path, answer: Any) -> None:
    """Train undisturbed, and say how many lines were executed in each kind of room."""
    counters = {kind: LineCounter(rooms) for kind, rooms in ROOMS.items()}

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        for counter in counters.values():
            if traced := counter(frame, event, argument):
                return traced
        return None

    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.settrace(enter)
    cory(["train", *words])
    sys.settrace(None)
    answer.put({kind: counter.count for kind, counter in counters.items()})


def kill_by_the_clock(
    process: BaseProcess, run: Path, kind: str, longest: float, draw: random.Random
) -> None:
    """Kill a process at a moment of the kind, at most `longest` seconds after its start."""
    if kind == ANY_MOMENT:
        process.join(draw.uniform(0.0, longest))
    else:
        deadline, skipped = time.monotonic() + LONGEST_WAIT, draw.randrange(3)
        seen: set[str] = set()
        while process.is_alive() and time.monotonic() < deadline and len(seen) <= skipped:
            seen |= {path.name for path in run.glob("checkpoints/.step-*.partial")}
            time.sleep(0.001)
        process.join(draw.uniform(0.0, 0.08))
    process.kill()


def check(run: Path) -> dict[str, Any]:
    """What a kill left behind.

    Raises:
        AssertionError: a checkpoint or a file of the run is not what was written.
    """
    checkpoints = Checkpoints(run, limit=None)
    for step in checkpoints.steps():
        assert (fault := damage(checkpoints.path(step), STATE)) is None, (step, fault)
    steps = [record["step"] for record in read_metrics(run / "metrics.jsonl")]
    assert steps == sorted(steps)
    assert all(path.stat().st_size for path in run.glob("config.yaml"))
    return {
        "newest": max(checkpoints.steps(), default=0),
        "partial": {
            (path.name, path.stat().st_mtime) for path in run.glob("checkpoints/.step-*.partial")
        },
    }


def differences(run: Path, undisturbed: Path) -> list[str]:
    """Files in which two runs differ, but for what the clock says."""
    found = []
    names = sorted(
        {
            str(path.relative_to(directory))
            for directory in (run, undisturbed)
            for path in directory.rglob("*")
            if path.is_file() and path.suffix in (".safetensors", ".json", ".jsonl", ".parquet")
        }
        - {"environment.jsonl"}
    )
    for name in names:
        paths = (run / name, undisturbed / name)
        if not all(path.is_file() for path in paths):
            found.append(f"{name} is missing in one")
        elif len({_without_the_clock(path) for path in paths}) > 1:
            found.append(name)
    assert any(name.endswith("state.safetensors") for name in names), names
    return found


def _without_the_clock(path: Path) -> bytes:
    if path.name == "state.json":
        state = json.loads(path.read_text())
        del state["progress"]["records"]["seconds"]
        return json.dumps(state).encode()
    if path.name == "metrics.jsonl":
        lines = [
            {key: value for key, value in record.items() if key not in CLOCK}
            for record in read_metrics(path)
        ]
        return json.dumps(lines).encode()
    return path.read_bytes()


def kill_and_resume(output_dir: Path, kills: int, steps: int, seed: int) -> dict[str, Any]:
    """Run the experiment.

    Args:
        output_dir: new; gets `undisturbed/`, `killed/` and a log of each.
        kills: how many, evenly over the kinds.
        steps: iterations of the training.
        seed: of the moments.

    Returns:
        kills by kind, kills that left a half-written checkpoint, the steps that were resumed from,
        and the differences to the undisturbed run.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cory.training.trainer", "cory.cli.train", "cory.tasks"])
    shutil.rmtree(output_dir, ignore_errors=True)
    output_dir.mkdir(parents=True)
    run, undisturbed = output_dir / "killed", output_dir / "undisturbed"
    words = [*SETTINGS, "--max_steps", str(steps), "--resume", "--output_dir"]
    answer = context.Queue()
    reference = context.Process(
        target=count_lines,
        args=([*words, str(undisturbed)], output_dir / "undisturbed.log", answer),
    )
    started = time.perf_counter()
    reference.start()
    lines_per_step = {kind: count / steps for kind, count in answer.get().items()}
    reference.join()
    seconds_per_step = (time.perf_counter() - started) / steps

    draw = random.Random(seed)
    log = output_dir / "killed.log"
    kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
    draw.shuffle(kinds)
    left_behind, newest = Counter[str](), []
    partial: set[Any] = set()
    for kind in kinds:
        counter = _counter(kind, lines_per_step, draw)
        process = context.Process(target=train, args=([*words, str(run)], log, counter))
        process.start()
        if not counter:
            kill_by_the_clock(process, run, kind, SECONDS_TO_START + 8 * seconds_per_step, draw)
        process.join()
        assert process.exitcode == -signal.SIGKILL, (kind, process.exitcode, "more --steps?")
        found = check(run)
        left_behind[kind] += bool(found["partial"] - partial)
        partial |= found["partial"]
        newest.append(found["newest"])
        sys.stderr.write(f"killed in {kind}: newest checkpoint {newest[-1]}\n")
    last = context.Process(target=train, args=([*words, str(run)], log))
    last.start()
    last.join()
    assert last.exitcode == 0, last.exitcode
    check(run)
    return {
        "kills": dict(Counter(kinds)),
        "left a half-written checkpoint": dict(left_behind),
        "newest checkpoints": newest,
        "starts said to be damaged": log.read_text(errors="replace").count("is damaged"),
        "differences": differences(run, undisturbed),
        "steps": steps,
    }


def _counter(
    kind: str, lines_per_step: Mapping[str, float], draw: random.Random
) -> list[LineCounter]:
    if kind not in ROOMS:
        return []
    # Four iterations have two saves, two exchanges and four records.
    return [LineCounter(ROOMS[kind], draw.randint(1, int(4 * lines_per_step[kind])))]


def main() -> None:
    """Read the options, run, print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/kill-and-resume"))
    options = parser.parse_args()
    started = time.perf_counter()
    found = kill_and_resume(options.output_dir, options.kills, options.steps, options.seed)
    found["seconds"] = round(time.perf_counter() - started)
    text = json.dumps(found, indent=1)
    (options.output_dir / "found.json").write_text(text + "\n")
    sys.stdout.write(text + "\n")
    sys.exit(1 if found["differences"] else 0)


if __name__ == "__main__":
    main()
