"""What a person sees: lines that fit what is logged, and a terminal that is given back."""

from __future__ import annotations

import io
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
