"""Tutorials and how-to pages keep their word: their commands and programs run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from cory.cli import COMMANDS
from cory.cli.comparison import read_comparison
from cory.cli.options import make_parser, parse, parse_words
from cory.cli.settings import training_settings
from cory.config import CORYConfig
from cory.config.presets import recipes
from tests.pages import ROOT, blocks, commands, run, running

DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
HOW_TO = [
    DOCS / "how-to" / f"{name}.md"
    for name in (
        "choosing-settings",
        "deploying",
        "from-trl",
        "reward-does-not-rise",
        "slurm",
        "trackers",
    )
]
PAGES = [ROOT / "README.md", *TUTORIALS, *HOW_TO]
COMPARISON = ("config", "preset", "arms", "baseline", "seeds", "kl_coefs", "learning_rates")
IS_SLOW = {"comparing-two-rewards", "deploying", "trackers"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.stem in IS_SLOW else [], id=page.stem)
        for page in PAGES[1:]
        if running(page)
    ],
)
def test_the_page_runs(page: Path, project: Path) -> None:
    """Prevents a newcomer's first commands from failing; only sizes are changed."""
    for block in running(page):
        run(block)
    assert list(project.glob("runs/**/metrics.jsonl"))


def test_most_pages_run() -> None:
    """Prevents a marker that is misspelt, so that nothing is run."""
    assert {page.stem for page in PAGES if running(page)} >= {
        "README",
        "first-run",
        "own-reward",
        "chat-lora",
        "comparing-two-rewards",
        "deploying",
        "trackers",
    }


ALL_COMMANDS = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words)}"[:80])
    for page in PAGES
    for block in blocks(page)
    if block.language == "bash"
    for words in commands(block.text)
]


@pytest.mark.parametrize("words", ALL_COMMANDS)
def test_the_command_is_valid(words: list[str], project: Path) -> None:
    """Prevents commands with options, targets or files that no longer exist."""
    program, command, *rest = words
    if program == "make":
        assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program in ("python", "python3"):
        assert command == "-m"
        assert importlib.util.find_spec(rest[0])
    elif program == "cory" and command == "train":
        training_settings(_known(rest))
    elif program == "cory" and command == "compare":
        parser = make_parser("", "")
        for name in COMPARISON[1:]:
            parser.add_argument(f"--{name}")
        given, options = parse_words(parser, rest)
        del given["output_dir"]  # of the comparison, not of its runs
        read_comparison(given, options)
    elif program == "cory":
        assert command in {*COMMANDS, "--help"}
    else:
        assert [program, command] in (["source", ".venv/bin/activate"], ["pip", "install"])


def _known(rest: list[str]) -> dict[str, object]:
    parser = make_parser("", "")
    parser.add_argument("--preset")
    parser.add_argument("--recipe", choices=list(recipes()))
    return parse(parser, rest)[0]


def test_the_page_shows_the_comparison_s_file() -> None:
    """Prevents a tutorial about another file than the one that it runs."""
    page = DOCS / "tutorials" / "comparing-two-rewards.md"
    [shown] = [block.text for block in blocks(page) if block.language == "yaml"]
    assert shown == (ROOT / "examples" / "two-rewards.yaml").read_text()


def test_the_page_shows_the_chat_reward() -> None:
    """Prevents a tutorial about another reward than the one that it runs."""
    page = DOCS / "tutorials" / "chat-lora.md"
    [shown, *_] = [block.text for block in blocks(page) if block.language == "python"]
    assert shown in (ROOT / "examples" / "pocket_chat.py").read_text()


def test_the_team_s_settings_exist() -> None:
    """Prevents a table of settings that were renamed."""
    page = (DOCS / "how-to" / "choosing-settings.md").read_text()
    table = page.split("## The team")[1].split("\n\n")[2]
    names = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(names) == 9
    assert [name for name in names if not hasattr(CORYConfig, name)] == []


def test_what_to_look_at_is_logged() -> None:
    """Prevents advice about numbers that no run has."""
    page = (DOCS / "how-to" / "reward-does-not-rise.md").read_text()
    cells = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    names = {name for cell in cells for name in re.findall(r"`([\w/]+)`", cell)}
    known = set(re.findall(r"`([\w/@]+)`", (DOCS / "reference" / "metrics.md").read_text()))
    assert len(names) >= 15
    assert {name.removeprefix("pioneer/") for name in names} - {"reward/NAME"} <= known
