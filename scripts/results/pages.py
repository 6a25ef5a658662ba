"""The pages: what stands between two markers is written by this package, the rest by hand.

<!-- table NAME -->    the table of that name (scripts/results/catalogue)
<!-- setup NAME -->    how that experiment was run (scripts/results/sources.py)
<!-- setups NAME … --> several experiments in short, with links to how they were run
<!-- questions THEME --> the rows of the index on that theme
<!-- end -->           closes each of them
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.results import forest
from scripts.results.catalogue import TABLES
from scripts.results.catalogue.questions import QUESTIONS
from scripts.results.evaluations import Evaluations
from scripts.results.experiments import ROOT
from scripts.results.questions import index
from scripts.results.sources import ALL
from scripts.results.tables import markdown

PAGES = ROOT / "docs/explanation/results"
TO_ROOT = "../../../"
BLOCK = re.compile(
    r"(<!-- (table|setups?|questions)(?: ([\w.\s-]+?))? -->\n).*?(<!-- end -->)", re.DOTALL
)
EXPERIMENTS = {experiment.name: experiment for experiment in ALL}


def render_all() -> dict[Path, str]:
    """What every file of the results should hold: the pages, and the forest plot."""
    experiments = {name: experiment.read() for name, experiment in EXPERIMENTS.items()}
    files = {path: render(path.read_text(), experiments) for path in sorted(PAGES.glob("*.md"))}
    return {**files, PAGES / "forest.svg": forest.draw(experiments)}


def render(page: str, experiments: Mapping[str, Evaluations]) -> str:
    """A page with every block written again.

    Raises:
        ValueError: a marker asks for what there is not, or has no end.
    """

    def fill(match: re.Match[str]) -> str:
        start, kind, name, end = match.groups()
        return f"{start}\n{_block(kind, name or '', experiments)}\n\n{end}"

    if page.count("<!-- end -->") != len(BLOCK.findall(page)):
        raise ValueError(
            f"{page.splitlines()[0]!r}: not every <!-- end --> has a marker before it; "
            "markers are table NAME, setup NAME, setups NAME …, questions THEME"
        )
    return BLOCK.sub(fill, page)


def _block(kind: str, name: str, experiments: Mapping[str, Evaluations]) -> str:
    if kind == "questions":
        return index(QUESTIONS, name, experiments)
    if kind == "setups":
        return in_short(name.split(), experiments)
    known = TABLES if kind == "table" else EXPERIMENTS
    if name not in known:
        raise ValueError(f"<!-- {kind} {name} -->: there is no such {kind}; see scripts/results")
    if kind == "table":
        return TABLES[name].render(experiments)
    return EXPERIMENTS[name].set_up(experiments[name], TO_ROOT)


def in_short(names: Sequence[str], experiments: Mapping[str, Evaluations]) -> str:
    """A row for each experiment: seeds, commits and where its command and data are."""
    rows = [
        [
            f"[{name}](experiments.md#{name.replace('.', '')})",
            ", ".join(map(str, experiments[name].seeds)),
            EXPERIMENTS[name].commits,
            f"[CSV]({TO_ROOT}{EXPERIMENTS[name].folder})",
        ]
        for name in names
    ]
    return markdown(["experiment", "seeds", "code", "data"], rows)
