"""Kill a training with signal 9 again and again, resume it each time, and compare the result.

    python -m experiments.faults.kill_and_resume --kills 8

Every variant of `experiments.faults.variants` is killed that often. A kill strikes

- at any moment after the start, by the clock;
- while a checkpoint is being written, by the clock: soon after its directory appears;
- in a line of Python that saves, exchanges roles, writes records or goes from one to the next,
  chosen at random: the process counts the lines it executes in these rooms and kills itself there.

Of a comparison the command is killed, at any moment, and every second time its training, too.

After every kill each checkpoint must have its checksums, and the same command must go on. The
finished run must equal one that nobody disturbed, byte for byte: weights, optimizer moments, random
states, metrics, samples; all but what the clock says. A variant that has its `found.json` is not
done again.
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
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from cory.io.checksums import damage
from cory.team.metrics import read_metrics
from cory.training.checkpoint import STATE, Checkpoints
from experiments.faults.differences import all_differences, runs_of
from experiments.faults.variants import VARIANTS, Variant

ROOMS = {
    "a line of saving": ("training/checkpoint.py", "io/files.py", "models/weights.py"),
    "a line of exchanging": ("team/averaging.py",),
    "a line of recording": ("team/metrics.py", "training/records.py", "training/samples.py"),
    "a line of the loop": ("training/trainer.py", "training/callbacks.py", "training/rescue.py"),
}
ANY_MOMENT, WRITING = "any moment", "writing a checkpoint"
KINDS = (ANY_MOMENT, WRITING, *ROOMS)
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


def work(
    variant: Variant, directory: Path, log: Path, counters: Sequence[LineCounter], answer: Any
) -> None:
    """A variant, as the main function of a process; puts the lines that were counted, if asked."""
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        for counter in counters:
            if traced := counter(frame, event, argument):
                return traced
        return None

    sys.settrace(enter if counters else None)
    variant.run(directory)
    sys.settrace(None)
    if answer is not None:
        answer.put([counter.count for counter in counters])


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
    # A training whose command was killed may be saving still, and removing what is over its limit.
    with suppress(FileNotFoundError):
        for step in checkpoints.steps():
            fault = damage(checkpoints.path(step), STATE)
            assert fault is None or not checkpoints.path(step).exists(), (step, fault)
    steps = [record["step"] for record in read_metrics(run / "metrics.jsonl")]
    assert steps == sorted(steps)
    assert all(path.stat().st_size for path in run.glob("config.yaml"))
    return {
        "newest": max(checkpoints.steps(), default=0),
        "partial": {
            (path.name, path.stat().st_mtime) for path in run.glob("checkpoints/.step-*.partial")
        },
    }


def kill_and_resume(variant: Variant, output_dir: Path, kills: int, seed: int) -> dict[str, Any]:
    """Run the experiment with one variant.

    Args:
        variant: what is run.
        output_dir: new; gets `undisturbed/`, `killed/` and a log of each.
        kills: how many, evenly over the kinds.
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

    def start(directory: Path, counters: Sequence[LineCounter] = (), answer: Any = None) -> Any:
        log = directory.with_suffix(".log")
        arguments = (variant, directory, log, list(counters), answer)
        process = context.Process(target=work, args=arguments)
        process.start()
        return process

    started, answer = time.perf_counter(), context.Queue()
    reference = start(undisturbed, [LineCounter(rooms) for rooms in ROOMS.values()], answer)
    lines = dict(zip(ROOMS, answer.get(), strict=True))
    reference.join()
    seconds = time.perf_counter() - started

    draw = random.Random(seed)
    kinds = _kinds(variant, lines, kills, draw)
    done, left_behind, newest = Counter[str](), Counter[str](), []
    partial: set[Any] = set()
    for attempt, kind in enumerate(kinds):
        counters = []
        if kind in ROOMS:
            # Eight kills are spread over the run: each strikes within its next sixth.
            counters = [LineCounter(ROOMS[kind], draw.randint(1, max(1, lines[kind] // 6)))]
        process = start(run, counters)
        if not counters:
            kill_by_the_clock(process, run, kind, SECONDS_TO_START + seconds * variant.share, draw)
        if variant.has_children and attempt % 2:
            kill_the_children(process.pid)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), (kind, process.exitcode)
        done[kind if process.exitcode else "came too late"] += 1
        found = [check(path) for path in runs_of(run)]
        seen = {path for each in found for path in each["partial"]}
        left_behind[kind] += bool(seen - partial)
        partial |= seen
        newest.append([each["newest"] for each in found])
        sys.stderr.write(f"{variant.name}: killed in {kind}: newest checkpoints {newest[-1]}\n")
    last = start(run)
    last.join()
    assert last.exitcode == 0, last.exitcode
    return {
        "kills": dict(done),
        "left a half-written checkpoint": dict(left_behind),
        "newest checkpoints": newest,
        "starts said to be damaged": sum(
            path.read_text(errors="replace").count("is damaged")
            for path in (run.with_suffix(".log"), *run.rglob("run.log"))
        ),
        "differences": all_differences(run, undisturbed),
    }


def _kinds(
    variant: Variant, lines: Mapping[str, int], kills: int, draw: random.Random
) -> list[str]:
    """What kinds of kill to make, in their order; a room that was never entered is left out."""
    kinds = [kind for kind in KINDS if lines.get(kind, 1)]
    kinds = [ANY_MOMENT] if variant.has_children else kinds
    chosen = [kinds[number % len(kinds)] for number in range(kills)]
    draw.shuffle(chosen)
    return chosen


def kill_the_children(parent: int) -> None:
    """Kill what a process has started, as far as it still runs (Linux)."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ProcessLookupError):
            words = status.read_text().rpartition(")")[2].split()
            if int(words[1]) == parent:
                os.kill(int(status.parent.name), signal.SIGKILL)


def main() -> None:
    """Read the options, run, print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=8, help="of each variant")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/kill-and-resume"))
    options = parser.parse_args()
    all_found = {}
    for name in options.variants:
        directory = options.output_dir / name
        path = directory / "found.json"
        if not path.is_file():
            started = time.perf_counter()
            found = kill_and_resume(VARIANTS[name], directory, options.kills, options.seed)
            found["seconds"] = round(time.perf_counter() - started)
            path.write_text(json.dumps(found, indent=1) + "\n")
            sys.stdout.write(f"{name}: {json.dumps(found)}\n")
            sys.stdout.flush()
        all_found[name] = json.loads(path.read_text())
    kills = Counter[str]()
    for found in all_found.values():
        kills.update(found["kills"])
    different = [name for name, found in all_found.items() if found["differences"]]
    sys.stdout.write(f"{dict(kills)}; different: {different or 'none'}\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
