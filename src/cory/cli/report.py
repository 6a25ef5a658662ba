"""`cory report`: a run or a comparison as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from cory.cli.help import PlainParser
from cory.io.terminal import say

USAGE = "cory report RUN|COMPARISON [--out FILE]"
DESCRIPTION = """\
Write a run or a comparison as one HTML page that works offline: results, curves, and a browser of
answers. The plots lie beside it as PNG files, in `plots/`."""


def run(words: Sequence[str]) -> None:
    """Carry out `cory report` with the words after it.

    Raises:
        ValueError: there is no such run or comparison, or nothing was measured yet.
    """
    parser = PlainParser("cory report", usage=USAGE, description=DESCRIPTION)
    parser.add_argument("target", metavar="RUN|COMPARISON", help="directory of it")
    parser.add_argument("--out", metavar="FILE", help="the page [report.html in the directory]")
    options = parser.parse_args(words)

    from cory.cli.libraries import quieten
    from cory.cli.options import refuse_wrong_paths

    refuse_wrong_paths(vars(options))

    quieten()
    from cory.report import write_report

    path = write_report(options.target, options.out)
    size = path.stat().st_size / 1e6
    say(f"wrote {path} ({size:.1f} MB), plots in {path.parent / 'plots'}")
