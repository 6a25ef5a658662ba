"""The README keeps its word: its commands and its code run, its files exist, it stays short."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from examples.quickstart import ARMS
from tests.pages import ROOT, blocks, commands, run, running

PAGE = ROOT / "README.md"
README = PAGE.read_text()
SECTIONS = [
    "Install",
    "Two commands",
    "Your own reward",
    "A real model",
    "A team, or plain PPO?",
    "Where to read on",
]
OWN_TASK = (ROOT / "examples" / "own_task.py").read_text().split('"""', 2)[2].strip()


def test_it_is_short_and_in_order() -> None:
    """Prevents a first page that grows until nobody reads it."""
    assert len(README.splitlines()) <= 150
    assert re.findall(r"^## (.+)", README, re.MULTILINE) == SECTIONS
    before_install = README.split("## Install")[0]
    assert "docs/pictures/team.svg" in before_install


def test_the_commands_are_found() -> None:
    """Prevents a search that finds nothing and so passes, and an install that leaves out `cory`."""
    shown = [block.text for block in blocks(PAGE) if block.language == "bash"]
    found = [words for text in shown for words in commands(text)]
    assert ["make", "quickstart"] in found
    assert ["make", "test"] in found
    assert found.index(["source", ".venv/bin/activate"]) < found.index(["cory", "--help"])
    assert len(running(PAGE)) == 1


def test_the_code_runs(project: Path) -> None:
    """Prevents code that the library no longer understands; only sizes are changed."""
    [own_task] = running(PAGE)
    run(own_task)
    assert (project / "runs/own/checkpoints/step-1/agent_0/config.json").is_file()


@pytest.mark.parametrize("page", ["README.md", "docs/tutorials/own-reward.md"])
def test_the_own_reward_is_the_example(page: str) -> None:
    """Prevents pages and examples/own_task.py from drifting apart, and an example that grows."""
    programs = [block.text.strip() for block in blocks(ROOT / page) if block.language == "python"]
    assert programs[0] == OWN_TASK
    assert len([line for line in OWN_TASK.splitlines() if line]) <= 15


@pytest.mark.parametrize("page", ["README.md", "docs/tutorials/first-run.md"])
def test_the_quickstart_s_output_is_of_today(page: str) -> None:
    """Prevents an output of yesterday's quickstart: other arms, or no sentence on the winner."""
    _, output = (ROOT / page).read_text().split("<!-- quickstart output -->\n```text\n")
    table = output.split("```")[0]
    rows = [line.split("  ")[0] for line in table.splitlines()]
    assert all(name in rows for name in ["initial model", *ARMS.values()])
    assert "samples each," in table
    assert "earns most" in table


@pytest.mark.parametrize(
    ("results", "arm", "digits"),
    [
        ("arithmetic", "ppo-2x-ema", 3),
        ("arithmetic", "team", 3),
        ("arithmetic", "cory", 3),
        ("reviews", "ppo-2x-ema", 2),
        ("reviews", "team", 2),
        ("sparse-lift", "ppo-2x-ema", 3),
        ("sparse-lift", "team", 3),
        ("convinced-eta", "ppo-2x-ema", 3),
        ("convinced-eta", "team-back-1", 3),
    ],
)
def test_the_numbers_are_the_stored_ones(results: str, arm: str, digits: int) -> None:
    """Prevents a table of numbers that nobody measured."""
    with (ROOT / "experiments/pocket/results" / results / "summary.csv").open(newline="") as file:
        [row] = [row for row in csv.DictReader(file) if (row["arm"], row["agent"]) == (arm, "mean")]
    numbers = (float(row["task_reward"]), float(row["task_reward_interval"]))
    mean, half = (f"{number:.{digits}f}".removeprefix("0") for number in numbers)
    assert int(row["seeds"]) == 5
    assert f"{mean} ± {half}" in README
