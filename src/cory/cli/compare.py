"""`cory compare`: arms × seeds under equal settings, run side by side, as tables and plots."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cory.cli.comparison import read_comparison
from cory.cli.options import make_parser, parse_words
from cory.compare.arms import STANDARD_ARMS
from cory.compare.presets import PRESETS
from cory.io.objects import shown
from cory.io.signals import Stopped, stop_at_once
from cory.io.terminal import say, write

if TYPE_CHECKING:
    from cory.compare.plan import Comparison

USAGE = (
    "cory compare [--preset NAME] [--config FILE] [--arms A,B] [--seeds 0,1,2] "
    "[--output_dir OUT] [--SETTING VALUE …]"
)
DESCRIPTION = f"""\
Train every arm with every seed under the same settings and compare what each agent does alone on
the same held-out queries. What is done is not done again: the same command continues, and more arms
or seeds in the same directory add to it. Settings given as options change the base of all arms.
Standard arms: {", ".join(STANDARD_ARMS)}. Presets: {", ".join(PRESETS)}."""
MAX_WORKERS = 1000
OUTPUT_DIR = "runs/comparison"


def run(words: Sequence[str]) -> None:
    """Carry out `cory compare` with the words after it.

    Raises:
        ValueError: the comparison is incomplete, unfair or misspelt.
    """
    parser = make_parser(USAGE, DESCRIPTION)
    parser.add_argument("--preset", metavar="NAME", help="a comparison to start from")
    parser.add_argument("--arms", metavar="A,B", help="arms to run, standard ones or the file's")
    parser.add_argument("--baseline", metavar="ARM", help="arm that differences are taken to [ppo]")
    parser.add_argument("--seeds", metavar="0,1,2", help="seeds of every arm [0,1,2]")
    parser.add_argument("--kl_coefs", metavar="X,Y", help="values of kl_coef to run [the base's]")
    parser.add_argument("--learning_rates", metavar="X,Y", help="likewise")
    parser.add_argument("--workers", type=int, help="runs at a time [one per core]")
    given, options = parse_words(parser, words)
    directory = Path(given.pop("output_dir", OUTPUT_DIR))
    comparison = read_comparison(given, options)
    if options["workers"] is not None and not 1 <= options["workers"] <= MAX_WORKERS:
        number = shown(options["workers"])
        raise ValueError(f"--workers {number} must lie between 1 and {MAX_WORKERS}")
    for warning in comparison.warnings():
        say(f"cory: {warning}")
    _compare(comparison, directory, options["workers"])


def _compare(comparison: Comparison, directory: Path, workers: int | None) -> None:
    from cory.cli.comparison_tables import print_tables
    from cory.compare.running import run_comparison
    from cory.report.pages import write_report
    from cory.report.results import read_results

    # Who is asked to end should end its runs, too.
    stop_at_once()
    try:
        failed = run_comparison(comparison, directory, workers)
    except (KeyboardInterrupt, Stopped):
        # What was measured so far can be looked at; there may be nothing yet.
        with suppress(ValueError):
            write_report(directory)
        raise
    write_report(directory)

    print_tables(read_results(directory))
    write("\n".join(map(str, _written(directory))))
    if failed:
        say(f"cory: {len(failed)} runs failed; the same command tries them again")
        sys.exit(1)


def _written(directory: Path) -> list[Path]:
    """The files that a comparison leaves beside its runs."""
    tables = sorted([*directory.glob("*.csv"), directory / "results.parquet"])
    return [*tables, *sorted((directory / "plots").glob("*.png")), directory / "report.html"]
