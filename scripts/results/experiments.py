"""The experiments that results rest on: their command, commit and stored evaluations."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.results.evaluations import Evaluations, read_evaluations

ROOT = Path(__file__).resolve().parents[2]
POCKET = "experiments/pocket/results"
WIDTH = 100


@dataclass(frozen=True)
class Experiment:
    """One comparison.

    Attributes:
        name: how rows and pages ask for it.
        task: the task in a word or two.
        effort: iterations, batch and coefficient.
        command: what to type, made of lines of at most 90 characters.
        commits: the commits of its runs.
        folder: where its CSV files are.
        added: further CSV files of the folder.
        before: a command that makes the model, if it does not ship.
    """

    name: str
    task: str
    effort: str
    command: Sequence[str]
    commits: str
    folder: str
    added: Sequence[str] = ()
    before: str = ""

    def read(self) -> Evaluations:
        """Its evaluations."""
        folder = ROOT / self.folder
        return read_evaluations(folder / "results.csv", [folder / name for name in self.added])

    def set_up(self, evaluations: Evaluations, to_root: str) -> str:
        """How it was run, as Markdown.

        Args:
            evaluations: its evaluations, which know the seeds.
            to_root: path from the page to the root of the checkout.
        """
        seeds = ", ".join(map(str, evaluations.seeds))
        commands = [self.before] if self.before else []
        commands.append(" \\\n    ".join(self.command))
        facts = [
            f"**Task:** {self.task}.",
            f"**Training:** {self.effort}.",
            f"**{'Seed' if len(evaluations.seeds) == 1 else 'Seeds'}:** {seeds}.",
            f"**Code:** {self.commits}.",
            f"**Data:** `{self.folder}` ([CSV]({to_root}{self.folder})).",
        ]
        return "\n".join([*map(_item, facts), "", "```bash", *commands, "```"])


def _item(text: str) -> str:
    """A list item whose lines fit a page."""
    return textwrap.fill(
        f"- {text}",
        WIDTH,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
