"""Train CORY and single-agent PPO on pocket-reviews under equal settings, and compare them.

    python -m examples.quickstart [--max_steps 60] [--output_dir runs/quickstart] [options of train]

The two trainings run at the same time, as one process of one thread each. Everything is done by the
commands `cory train` and `cory eval`; this file starts them and puts their results side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from cory.cli.tables import evaluation_table
from cory.io.terminal import model_text

TASK = "pocket-reviews"
INITIAL_MODEL = "initial model"
MAX_STEPS = 60
STEPS_BETWEEN_EVALUATIONS = 10
NUM_QUERIES = 512
NUM_SHOWN = 3


@dataclass(frozen=True)
class Arm:
    """One side of the comparison: a training, its options and its run directory."""

    title: str
    options: tuple[str, ...]
    directory: Path

    @property
    def train(self) -> list[str]:
        return ["train", *self.options, "--output_dir", str(self.directory)]

    @property
    def eval(self) -> list[str]:
        count = str(NUM_QUERIES)
        return ["eval", str(self.directory), "--num_queries", count, "--num_samples", "1"]

    @property
    def log(self) -> Path:
        return self.directory.with_suffix(".log")

    def title_of(self, agent: str) -> str:
        """What to call an agent of this arm; a single one is called as the arm."""
        is_team = len(self.evaluation()["checkpoints"]) > 1
        return f"{self.title} {agent}" if is_team else self.title

    def records(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl that are complete."""
        path = self.directory / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def evaluation(self) -> dict[str, Any]:
        return json.loads((self.directory / "eval.json").read_text())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--max_steps", type=int, default=MAX_STEPS)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/quickstart"))
    known, passed_on = parser.parse_known_args(argv)
    console = Console(highlight=False)
    arms = make_arms(known.output_dir, known.max_steps, passed_on)
    console.print("[bold]CORY and PPO under equal settings[/bold]: only num_agents differs.\n")
    for arm in arms:
        shutil.rmtree(arm.directory, ignore_errors=True)
        arm.directory.parent.mkdir(parents=True, exist_ok=True)
        console.print(f"  cory {shlex.join(arm.train)}", soft_wrap=True)
    console.print()
    started = time.monotonic()
    run_side_by_side(arms, known.max_steps, console)
    show(arms, console)
    report(arms, console)
    console.print(f"All of it took {time.monotonic() - started:.0f} seconds.")


def make_arms(output_dir: Path, max_steps: int, passed_on: Sequence[str]) -> list[Arm]:
    """CORY and PPO; `passed_on` are further options of `cory train`, for both."""
    equal = [
        *("--task", TASK, "--max_steps", str(max_steps)),
        *("--eval_steps", str(min(max_steps, STEPS_BETWEEN_EVALUATIONS))),
        *passed_on,
    ]
    return [
        Arm("CORY", ("--num_agents", "2", *equal), output_dir / "cory"),
        Arm("PPO", ("--num_agents", "1", *equal), output_dir / "ppo"),
    ]


def run_side_by_side(arms: Sequence[Arm], max_steps: int, console: Console) -> None:
    """Train and evaluate all arms at the same time, with a bar for each."""
    with ThreadPoolExecutor(len(arms)) as executor, Progress(console=console) as progress:
        bars = {arm: progress.add_task(f"{arm.title:<5}", total=max_steps) for arm in arms}
        jobs: list[Future[None]] = [executor.submit(run_arm, arm) for arm in arms]
        while not all(job.done() for job in jobs):
            time.sleep(0.5)
            for arm, bar in bars.items():
                step = max((record["step"] for record in arm.records()), default=0)
                progress.update(bar, completed=step)
    for job in jobs:
        job.result()


def run_arm(arm: Arm) -> None:
    """Train, then evaluate each agent alone, in processes of one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with arm.log.open("w") as log:
        for words in (arm.train, arm.eval):
            command = [sys.executable, "-m", "cory", *words]
            status = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
            )
            if status.returncode:
                tail = "\n".join(arm.log.read_text().splitlines()[-20:])
                sys.exit(f"`cory {shlex.join(words)}` failed:\n{tail}\n(all of it: {arm.log})")


def show(arms: Sequence[Arm], console: Console) -> None:
    """The comparison as a table, some answers, and what the numbers do not say."""
    columns: dict[str, dict[str, float]] = {}
    answers: dict[str, list[dict[str, Any]]] = {}
    for arm in arms:
        evaluation = arm.evaluation()
        spent = next(record for record in reversed(arm.records()) if "total_samples" in record)
        for name, metrics in evaluation["metrics"].items():
            is_agent = name != INITIAL_MODEL
            title = arm.title_of(name) if is_agent else name
            columns[title] = {**metrics, **(spent if is_agent else {})}
            answers[title] = evaluation["answers"][name]
    title = f"each model alone on the plain query, {NUM_QUERIES} held-out queries"
    console.print(evaluation_table(title, columns))
    console.print("\n[bold]answers[/bold] (reward)\n")
    for row in range(NUM_SHOWN):
        console.print(model_text(next(iter(answers.values()))[row]["query"]), style="bold")
        for title, rows in answers.items():
            line = model_text(
                f"  {title:<13} …{rows[row]['answer']}  ({rows[row]['task_reward']:+.2f})"
            )
            console.print(line, soft_wrap=True)
        console.print()
    console.print(
        "Matched steps are not matched compute: in as many steps a team of two samples and learns\n"
        "from twice the answers of PPO, and an observer's prompt is longer. `cory train\n"
        "--num_agents 1` with twice the --batch_size gives PPO as many answers. One seed proves\n"
        "nothing: what has been measured so far is in docs/log.md.\n",
        soft_wrap=True,
    )


def report(arms: Sequence[Arm], console: Console) -> None:
    """A page of each run."""
    from cory.report import write_report

    pages = " and ".join(str(write_report(arm.directory)) for arm in arms)
    console.print(f"Curves and answers: {pages}", soft_wrap=True)


if __name__ == "__main__":
    main()
