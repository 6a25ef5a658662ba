"""Iterations of `cory` beside those of TRL, on the same models, prompts, lengths and reward.

    python -m benchmarks.iteration [--texts DIRECTORY] [--trl_ppo_python PATH] [--output PATH]

Every case of `benchmarks/suite.py` runs in a process of its own, on one thread unless it is about
two. `--output NAME` writes NAME.json and NAME.md. docs/explanation/speed.md explains the columns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.files import read_texts
from benchmarks.floor import bf16_speedup
from benchmarks.goals import PROCESSORS, machine_class
from benchmarks.machine import describe_run, num_cores
from benchmarks.running import Bench, Results
from benchmarks.saving import page, save
from benchmarks.suite import CASES, summarise
from benchmarks.table import iteration_table, number_table, own_floor_table, phase_table

MIN_BF16_SPEEDUP = 1.2
TINY = {"shape": "tiny", "batch_size": 8, "num_tokens": 4, "micro_batch": None, "steps": 1}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    cases = [case.replace(**TINY) if options.tiny else case for case in CASES]
    if options.only:
        cases = [case for case in cases if case.name in options.only]
    results, text = Results(), ""
    with tempfile.TemporaryDirectory() as directory:
        pythons = {"benchmarks.workers.trl_ppo": options.trl_ppo_python}
        bench = Bench(Path(directory), read_texts(options.texts), pythons)
        for line in bench.run(cases, refuse, results):
            print(line, file=sys.stderr, flush=True)
            text = publish(results, arguments, options.output)
    print(text)


def publish(results: Results, arguments: list[str], output: Path | None) -> str:
    """What has been measured so far as Markdown, and on disk if that is wanted."""
    goals = {"goals": f"those of a processor with {PROCESSORS[machine_class()]}"}
    run = {**describe_run("benchmarks.iteration", arguments), **goals}
    text = page("Speed on a CPU", run, results, render(results))
    if output is not None:
        save(output, text, run, results)
    return text


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.name for case in CASES]
    parser.add_argument("--texts", type=Path, help="directory with train.parquet (column text)")
    parser.add_argument(
        "--trl_ppo_python", default=sys.executable, help="interpreter with TRL 0.11.4"
    )
    parser.add_argument("--only", nargs="+", choices=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--output", type=Path, help="path of the results, without suffix")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: does it run at all?")
    return parser.parse_args(arguments)


def refuse(case: Case) -> str | None:
    """Why a case would say nothing on this machine."""
    if case.threads > num_cores():
        return f"needs {case.threads} cores, this process may use {num_cores()}"
    if case.bf16 and (speedup := bf16_speedup()) < MIN_BF16_SPEEDUP:
        return f"no fast bfloat16 here: its products have {speedup:.2g} × the rate of float32's"
    return None


def render(results: Results) -> str:
    """The results as Markdown."""
    measured = list(results.measured.values())
    parts = [
        "## Numbers",
        number_table(summarise(results.measured, results.reasons), machine_class()),
        "## Iterations",
        iteration_table(measured),
        "## Phases over the floors of their own shapes",
        own_floor_table(measured),
        "## Where the CPU seconds go",
        phase_table(measured),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
