"""What a person sees: lines that fit what is logged, and a terminal that is given back."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as RichConsole

from cory.training.trainer import CORYTrainer
from tests.tiny_runs import queries, trainer


def watched(
    team: CORYTrainer, is_terminal: bool = False, width: int = 60
) -> tuple[CORYTrainer, io.StringIO]:
    """The team with a console that writes to a text."""
    text = io.StringIO()
    team.console.console = RichConsole(
        file=text, force_terminal=is_terminal, width=width, highlight=False
    )
    return team, text


def test_every_agent_has_its_column(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents rewards under the wrong name after an exchange, and lines that are folded."""
    team, text = watched(
        trainer(
            tiny_gpt2_dir,
            tmp_path / "[red]odd[/name]",
            eval_dataset=queries(2),
            max_steps=2,
            role_exchange_period=1,
        )
    )
    seconds_before = team.console.last_line
    team.train()
    assert team.console.last_line > seconds_before
    lines = text.getvalue().splitlines()
    assert any("[red]odd[/name]" in line for line in lines), "brackets are text, not markup"
    last = next(line for line in lines if line.split()[:2] == ["2", "observer"])
    assert last.index("observer") < last.index("pioneer"), "agent_0 is the observer now"
    assert any(line.split()[0] == "2" and "held out" in line for line in lines)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_terminal_is_given_back_after_an_error(
    tiny_gpt2_dir: Path, tmp_path: Path, is_terminal: bool
) -> None:
    """Prevents a bar that goes on over the error message, and a hidden cursor."""

    def failing(**_: Any) -> list[float]:
        raise RuntimeError("no judge")

    team, text = watched(trainer(tiny_gpt2_dir, tmp_path, failing), is_terminal)
    with pytest.raises(ValueError, match="no judge"):
        team.train()
    assert team.console.progress is None
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert text.getvalue().count(hide) == text.getvalue().count(show) == int(is_terminal)


def test_closing_twice_gives_the_terminal_back_once(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an error at the end from hiding the error before it, and a bar drawn again."""
    team, text = watched(trainer(tiny_gpt2_dir, tmp_path, max_steps=1), is_terminal=True)
    team.train()
    shown = text.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    team.console.close()
    assert text.getvalue() == shown


def test_answers_are_shown_while_training(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents hours of numbers, in which nobody sees what the agents say."""
    team, text = watched(
        trainer(tiny_gpt2_dir, tmp_path, log_samples_steps=1, max_steps=1), width=200
    )
    team.train()
    lines = text.getvalue().splitlines()
    first = next(place for place, line in enumerate(lines) if "┌" in line)
    assert [line.split()[1] for line in lines[first + 1 : first + 4]] == [
        "pioneer",
        "observer",
        "initial",
    ]
    assert lines[first + 3].lstrip().startswith("└")


def test_quiet_prints_no_progress(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a log of lines that nobody asked for, and libraries that speak anyway."""
    trainer(tiny_gpt2_dir, tmp_path, log_samples_steps=1, quiet=True, log_level="error").train()
    error = capsys.readouterr().err
    assert "pioneer" not in error
    assert "cory →" not in error
    assert logging.getLogger("transformers").level == logging.ERROR
    trainer(tiny_gpt2_dir, tmp_path / "loud", log_samples_steps=1)
    assert logging.getLogger("transformers").level == logging.WARNING
