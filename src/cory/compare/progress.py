"""Progress bars of a comparison: what runs, how far it is, how long it will take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cory.compare.plan import PlannedRun
from cory.io.terminal import model_text, new_console, printable

SECONDS_OF_SPEED = 900.0
TAIL_BYTES = 65536


def amount_of_work(run: PlannedRun) -> int:
    """Answers that a run samples in all; its time is about proportional to them."""
    return run.args.num_agents * run.args.batch_size * run.args.max_steps


def last_step(metrics_file: Path) -> int:
    """The newest step in metrics.jsonl, read from its end; 0 if there is none."""
    if not metrics_file.is_file():
        return 0
    with metrics_file.open("rb") as file:
        file.seek(max(0, metrics_file.stat().st_size - TAIL_BYTES))
        steps = re.findall(rb'^\{"step": (\d+)', file.read(), re.MULTILINE)
    return int(steps[-1]) if steps else 0


class MatrixProgress:
    """A bar for the matrix and one for each running run; a line for each that ends.

    Args:
        is_finished: whether a run was finished before; asked once for each run. Those that were
            not stand in `to_do`.
        console: None: standard error.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        is_finished: Callable[[PlannedRun], bool],
        console: Console | None = None,
    ) -> None:
        self.console = console or new_console(to_stderr=True)
        self.num_runs = len(runs)
        self.to_do = {run for run in runs if not is_finished(run)}
        self.num_finished = self.num_reused = len(runs) - len(self.to_do)
        self.num_failed = 0
        self.work_done = 0.0
        self.tasks: dict[PlannedRun, TaskID] = {}
        self.told: set[PlannedRun] = set()
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            # Runs report once per iteration, so a short memory would see them stand still.
            speed_estimate_period=SECONDS_OF_SPEED,
        )
        self.matrix = self.progress.add_task(
            "all runs", total=sum(map(amount_of_work, self.to_do)), state=self._counts(0)
        )

    def __enter__(self) -> MatrixProgress:
        reused = f", {self.num_reused} of them done before" if self.num_reused else ""
        self._print(f"{self.num_runs} runs{reused}")
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def started(self, run: PlannedRun) -> None:
        """Add the bar of a run that begins."""
        self.tasks[run] = self.progress.add_task(
            printable(str(run)), total=run.args.max_steps, state=""
        )

    def waits(self, run: PlannedRun) -> None:
        """Say once that another process is training a run."""
        if run not in self.told:
            self._print(f"another process trains {run} in {run.directory}: waiting for its end")
        self.told.add(run)

    def finished(self, run: PlannedRun) -> None:
        """Count a run that came to its end."""
        self.num_finished += 1
        self._ended(run, "done")

    def failed(self, run: PlannedRun, report: str) -> None:
        """Count a run that failed, and print the report that says why."""
        self.num_failed += 1
        self._ended(run, "failed")
        self._print(report)

    def update(self, running: Iterable[PlannedRun]) -> None:
        """Read how far each running run is, and move the bars."""
        at_work, work = list(running), self.work_done
        for run in at_work:
            step = last_step(run.directory / "metrics.jsonl")
            work += amount_of_work(run) * step / run.args.max_steps
            self.progress.update(
                self.tasks[run], completed=step, state=f"step {step}/{run.args.max_steps}"
            )
        self.progress.update(self.matrix, completed=work, state=self._counts(len(at_work)))

    def _ended(self, run: PlannedRun, how: str) -> None:
        self.work_done += amount_of_work(run)
        self.progress.remove_task(self.tasks.pop(run))
        self._print(f"[{self.num_finished + self.num_failed}/{self.num_runs}] {how}: {run}")

    def _counts(self, num_running: int) -> str:
        failed = f", {self.num_failed} failed" if self.num_failed else ""
        return f"{self.num_finished}/{self.num_runs} done, {num_running} running{failed}"

    def _print(self, text: str) -> None:
        self.console.print(model_text(text), soft_wrap=True)
