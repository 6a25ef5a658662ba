"""The README keeps its word: its commands and its code run, its files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cory.cli import COMMANDS, main
from cory.cli.options import make_parser, parse
from cory.cli.settings import training_settings
from cory.config import CORYConfig

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(<!-- runs -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(language, text, bool(runs)) for runs, language, text in BLOCK.findall(README)]
TINY = {"max_steps": 1, "batch_size": 4, "num_eval_queries": 4, "num_queries": 4}


def commands(text: str) -> list[list[str]]:
    """The words of each command line, lines that go on joined."""
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line]


ALL_COMMANDS = [words for kind, text, _ in BLOCKS if kind == "bash" for words in commands(text)]
RUNNING_COMMANDS = [commands(text) for kind, text, runs in BLOCKS if kind == "bash" and runs]
RUNNING_PROGRAMS = [text for kind, text, runs in BLOCKS if kind == "python" and runs]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that looks like the checkout, and keeps what is run out of it."""
    for name in ("examples", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_blocks_are_found() -> None:
    """Prevents a search that finds nothing and so passes."""
    assert ["make", "quickstart"] in ALL_COMMANDS
    assert ["make", "test"] in ALL_COMMANDS
    assert len(RUNNING_COMMANDS) == 2
    assert len(RUNNING_PROGRAMS) == 2


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_every_command_is_valid(words: list[str]) -> None:
    """Prevents commands with options, targets or files that no longer exist."""
    program, command, *rest = words
    if program == "make":
        assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert program == "cory"
    assert command in COMMANDS
    if command == "train":
        rest = [str(ROOT / word) if word.startswith("recipes/") else word for word in rest]
        training_settings(parse(make_parser("", ""), rest)[0])


@pytest.mark.parametrize("block", RUNNING_COMMANDS, ids=["own-task", "command-line"])
def test_commands_run(block: list[list[str]], project: Path) -> None:
    """Prevents a newcomer's first command from failing; only sizes are changed."""
    for done, (program, *words) in enumerate(block):
        assert program == "cory"
        sizes = {**TINY, "max_steps": done + 1}
        for name, size in sizes.items():
            if f"--{name}" in words:
                words[words.index(f"--{name}") + 1] = str(size)
        if words[0] == "train":
            words += ["--batch_size", "4", "--num_eval_queries", "4"]
        main(words)


@pytest.mark.parametrize("program", RUNNING_PROGRAMS, ids=["own-task", "python"])
def test_programs_run(program: str, project: Path) -> None:
    """Prevents code that the library no longer understands; only sizes are changed."""
    small = re.sub(r"max_steps=\d+", "max_steps=1", program)
    small = re.sub(r"batch_size=\d+", "batch_size=4", small)
    assert small != program
    if "batch_size" not in small:
        small = small.replace("max_steps=1", "max_steps=1, batch_size=4, num_eval_queries=4")
    exec(compile(small, "README.md", "exec"), {"__name__": "__main__"})
    assert list(project.glob("runs/*/checkpoints/step-1/agent_0/config.json"))


def test_the_own_task_is_the_example() -> None:
    """Prevents the README and examples/own_task.py from drifting apart."""
    _, _, code = (ROOT / "examples" / "own_task.py").read_text().split('"""', 2)
    assert code.strip() == RUNNING_PROGRAMS[0].strip()


def test_files_that_are_named_exist() -> None:
    """Prevents a file tree and links that describe yesterday's checkout."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    tree = README.split("```text\nsrc/cory/\n")[1].split("```")[0]
    rooms = re.findall(r"^  (\S+)", tree, re.MULTILINE)
    rooms += re.findall(r"; (\w+\.py):", tree)
    folders = re.findall(r"^(\w\S+)", tree, re.MULTILINE)
    named = [*links, *(f"src/cory/{room}" for room in rooms), *folders]
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_settings_that_are_named_exist() -> None:
    """Prevents a table of settings that were renamed."""
    table = README.split("| setting |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) > 6
    assert [name for name in names if not hasattr(CORYConfig, name)] == []
