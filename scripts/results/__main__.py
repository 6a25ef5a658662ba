"""Write the tables and the forest plot of docs/explanation/results from the stored evaluations.

python -m scripts.results            write them (`make results`)
python -m scripts.results --check    change nothing; exit status 1 if a file would change
"""

from __future__ import annotations

import argparse
import sys

from scripts.results.experiments import ROOT
from scripts.results.pages import render_all


def main() -> int:
    """Write, or check, every file; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.results", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, say what would")
    is_check = parser.parse_args().check
    outdated = [
        (path, text)
        for path, text in render_all().items()
        if not path.is_file() or path.read_text() != text
    ]
    for path, text in outdated:
        outcome = "out of date: run `make results`" if is_check else "written"
        print(f"{path.relative_to(ROOT)}: {outcome}")
        if not is_check:
            path.write_text(text)
    return int(is_check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
