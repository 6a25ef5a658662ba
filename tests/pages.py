"""Code blocks of Markdown pages: what they hold, and how to run them at a small size.

A block behind the line `<!-- runs -->` is run as it stands, but for its sizes. The blocks of a page
are run in order, in one directory, as a reader would.
"""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from cory.cli import main

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- runs -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
STEPS = re.compile(r"(?<=max_steps[= ])\d+|(?<=step-)\d+")
PERIOD = re.compile(r"(?<=save_steps[= ])\d+|(?<=eval_steps[= ])\d+")
SIZES = {
    "train": {"batch_size": 4, "num_eval_queries": 4},
    "eval": {"num_queries": 4},
    "compare": {
        "batch_size": 4,
        "num_eval_queries": 4,
        "num_eval_samples": 1,
        "max_steps": 1,
        "seeds": 0,
    },
}
"""What each command is told, whatever the page says."""


@dataclass(frozen=True)
class Block:
    """One code block of a page."""

    language: str
    text: str
    runs: bool


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    found = BLOCK.findall(page.read_text())
    return [Block(language, text, bool(runs)) for runs, language, text in found]


def commands(text: str) -> list[list[str]]:
    """The words of each command line; lines that go on are joined, comments are left out."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def running(page: Path) -> list[Block]:
    """The blocks that are to be run, with small numbers of steps, the order of which is kept."""
    marked = [block for block in blocks(page) if block.runs]
    numbers = {int(number) for block in marked for number in STEPS.findall(block.text)}
    small = {number: rank for rank, number in enumerate(sorted(numbers), start=1)}
    return [Block(block.language, small_steps(block.text, small), True) for block in marked]


def small_steps(text: str, small: Mapping[int, int]) -> str:
    """Numbers of steps replaced, periods set to 1."""
    return PERIOD.sub("1", STEPS.sub(lambda number: str(small[int(number[0])]), text))


def run(block: Block) -> None:
    """Run a block as the page has it, at a small size."""
    if block.language == "python":
        program = re.sub(r"(max_steps=\d+)", r"\1, batch_size=4, num_eval_queries=4", block.text)
        exec(compile(program, "page", "exec"), {"__name__": "__main__"})
        return
    assert block.language == "bash"
    for words in commands(block.text):
        run_command(words)


def run_command(words: list[str]) -> None:
    """Run `cory …` or `python -m …` in this process."""
    program, *rest = words
    if program == "python":
        flag, module, *arguments = rest
        assert flag == "-m"
        with patch.object(sys, "argv", [module, *arguments]):
            runpy.run_module(module, run_name="__main__")
        return
    assert program == "cory"
    for name, size in SIZES.get(rest[0], {}).items():
        if f"--{name}" in rest:
            rest[rest.index(f"--{name}") + 1] = str(size)
        else:
            rest += [f"--{name}", str(size)]
    main(rest)
