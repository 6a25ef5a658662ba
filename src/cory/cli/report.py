"""`cory report`: a run or a comparison as one HTML page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cory.cli.help import PlainParser
from cory.io.terminal import say

USAGE = "cory report RUN|COMPARISON [RUN …] [--out FILE] [--watch]"
DESCRIPTION = """\
Write a run, several runs or a comparison as one HTML page that works offline: results, curves, and
a browser of answers. The plots lie beside it as PNG, SVG and PDF files, in `plots/`."""
WATCH_SECONDS = 10


def run(words: Sequence[str]) -> None:
    """Carry out `cory report` with the words after it.

    Raises:
        ValueError: there is no such run or comparison, or nothing was measured yet.
    """
    parser = PlainParser("cory report", usage=USAGE, description=DESCRIPTION)
    parser.add_argument("target", metavar="RUN|COMPARISON", help="directory of it")
    parser.add_argument("others", metavar="RUN", nargs="*", help="further runs, beside it")
    parser.add_argument(
        "--watch",
        type=int,
        nargs="?",
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"write the page again while the run grows, and let it renew itself [{WATCH_SECONDS}]",
    )
    parser.add_argument("--out", metavar="FILE", help="the page [report.html in the directory]")
    options = parser.parse_args(words)

    if options.watch is not None and (options.others or options.watch < 1):
        raise ValueError("--watch takes one run, and at least 1 second")
    from cory.cli.libraries import quieten
    from cory.cli.options import refuse_wrong_paths

    refuse_wrong_paths(vars(options))

    quieten()
    from cory.report import write_report

    if options.watch is not None:
        watch(options.target, options.out, options.watch)
    path = write_report(options.target, options.out, *options.others)
    size = path.stat().st_size / 1e6
    say(f"wrote {path} ({size:.1f} MB), plots in {path.parent / 'plots'}")


def watch(target: str, out: str | None, seconds: int) -> None:
    """Write the page of a run again and again, until the run has its last iteration or Ctrl-C.

    Raises:
        ValueError: the directory holds no run.
    """
    from cory.report import write_report
    from cory.report.records import read_records
    from cory.training.records import load_config

    args, metrics = load_config(Path(target)), Path(target) / "metrics.jsonl"
    size, step, is_told = -1, 0, False
    with suppress(KeyboardInterrupt):
        while step < args.max_steps:
            if metrics.is_file() and metrics.stat().st_size not in (0, size):
                size = metrics.stat().st_size
                path = write_report(target, out, refresh=seconds)
                step = max(record["step"] for record in read_records(metrics))
                if not is_told:
                    say(f"watching {target}: open {path}; Ctrl-C ends it")
                    is_told = True
            if step < args.max_steps:
                time.sleep(seconds)
