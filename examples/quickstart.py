"""Train PPO, the paper's team and the preset `team` on equal samples, and say who is ahead.

    python -m examples.quickstart [--max_steps 60] [options of `cory compare`]

A small language model finishes film reviews; a classifier pays it for sounding positive. PPO gets
twice the batch, since a team of two answers every query twice. `cory compare` does the work.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cory.compare import load_results

TASK = "pocket-reviews"
ARMS = {
    "ppo-2x": "PPO with twice the batch",
    "cory": "the paper's team",
    "team": "the preset team",
}
NUM_QUERIES = 512
OPENING = "This ghost story about a lost"


@dataclass(frozen=True)
class Result:
    """One row of the table: each agent alone on the plain query, averaged over the agents."""

    name: str
    samples: float
    reward: float
    half_interval: float
    kl: float
    distinct_2: float
    seconds: float


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--max_steps", type=int, default=60)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/quickstart"))
    options, passed_on = parser.parse_known_args(argv)
    print("Three trainings, some minutes on two cores; the same command goes on.\n", flush=True)
    compare(options.output_dir, options.max_steps, passed_on)
    table = load_results(options.output_dir)
    initial, *arms = results(table)
    print(f"each agent alone on the plain query, {NUM_QUERIES} held-out queries\n")
    print_table([initial, *arms])
    print(f"\n{textwrap.fill(verdict(arms), 92)}")
    print("One seed is an example; docs/explanation/results has five seeds of each.\n", flush=True)
    print_answers(options.output_dir, table)
    seconds = ", ".join(f"{arm.seconds:.0f} ({arm.name})" for arm in arms)
    print(f"\nSeconds of training: {seconds}.")
    print(f"Curves and answers on one page: {options.output_dir / 'report.html'}")


def compare(output_dir: Path, max_steps: int, passed_on: Sequence[str]) -> None:
    """Run `cory compare`: progress goes to the terminal, its own tables to a file."""
    settings = {
        "task": TASK,
        "arms": "team,cory,ppo-2x",  # the slowest one first, so that two cores end together
        "baseline": "ppo-2x",
        "seeds": "0",
        "max_steps": str(max_steps),
        "eval_steps": str(min(max_steps, 10)),
        "num_eval_queries": str(NUM_QUERIES),
        "output_dir": str(output_dir),
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "cory", "compare", *words, *passed_on]
    output_dir.mkdir(parents=True, exist_ok=True)
    with (output_dir / "tables.txt").open("w") as tables:
        status = subprocess.run(command, stdout=tables, check=False).returncode
    if status:
        sys.exit(status)


def results(table: pd.DataFrame) -> list[Result]:
    """The initial model, then each arm after its last iteration."""
    rows = [_result("initial model", table[table["step"] == 0])]
    for arm, name in ARMS.items():
        of_arm = table[table["arm"] == arm]
        rows.append(_result(name, of_arm[of_arm["step"] == of_arm["step"].max()]))
    return rows


def _result(name: str, rows: pd.DataFrame) -> Result:
    keys = ("total_samples", "task_reward", "task_reward_ci95", "kl", "distinct_2", "total_seconds")
    return Result(name, *(float(rows[key].mean()) for key in keys))


def print_table(rows: Sequence[Result]) -> None:
    """The results, a row for each model."""
    print(f"{'':<25}{'samples':>9}{'reward':>16}{'KL (nats)':>11}{'distinct-2':>12}")
    for row in rows:
        reward = f"{row.reward:.3f} ± {row.half_interval:.3f}"
        numbers = f"{row.samples:>9,.0f}{reward:>16}{row.kl:>11.3f}{row.distinct_2:>12.3f}"
        print(f"{row.name:<25}{numbers}")


def verdict(arms: Sequence[Result]) -> str:
    """One sentence: who earns most, and by how much the others earn less, at what KL."""
    best, *others = sorted(arms, key=lambda arm: arm.reward, reverse=True)
    parts = [_behind(arm, best) for arm in others]
    return (
        f"At {best.samples:,.0f} samples each, {best.name} earns most ({best.reward:.2f}); "
        f"{'; '.join(parts)}."
    )


def _behind(arm: Result, best: Result) -> str:
    gap, kl = best.reward - arm.reward, arm.kl - best.kl
    is_level = gap <= math.hypot(best.half_interval, arm.half_interval)
    level = " (within the intervals)" if is_level else ""
    how = "more" if kl > 0 else "less"
    return f"{arm.name} earns {gap:.2f} less{level} at {abs(kl):.2f} nats {how} KL"


def print_answers(output_dir: Path, table: pd.DataFrame) -> None:
    """One opening, finished by the initial model and by the first agent of each arm."""
    directories = table.drop_duplicates("arm").set_index("arm")["run"]
    models = {"initial model": "pocket-reviews-lm"}
    models |= {name: str(output_dir / directories[arm]) for arm, name in ARMS.items()}
    processes = {name: _generate(model) for name, model in models.items()}
    print(f"{OPENING} …")
    for name, process in processes.items():
        answer, _ = process.communicate()
        if process.returncode:
            sys.exit(f"`cory generate` failed for {name}: see above")
        shown = "".join(letter if letter.isprintable() else " " for letter in answer.strip())
        print(f"  {name:<25}… {shown}")


def _generate(model: str) -> subprocess.Popen[str]:
    words = ["generate", model, "--task", TASK, "--prompt", OPENING]
    return subprocess.Popen(
        [sys.executable, "-m", "cory", *words], stdout=subprocess.PIPE, text=True
    )


if __name__ == "__main__":
    main()
