"""Progress for a person: a line per step with each agent's role, and a bar with the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from transformers import TrainerCallback

from cory.io.terminal import model_text, new_console
from cory.team.roles import role_name, roles_at

SECONDS_BETWEEN_LINES = 2.0
SHOWN_CHARACTERS = 70
"""Of a query or an answer."""


class Console(TrainerCallback):
    """Prints what is logged; nothing here changes training.

    A column of agents is a column of weights: the role that stands there moves at an exchange.
    Without a `console` it is stderr. It `is_quiet` in a process beside the one that prints.
    """

    def __init__(self, console: RichConsole | None = None, is_quiet: bool = False) -> None:
        self.console = console or new_console(to_stderr=True, is_quiet=is_quiet)
        self.progress: Progress | None = None
        self.last_line = -SECONDS_BETWEEN_LINES

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._print(f"cory → {args.output_dir}", style="bold")
        self._print(_team(args))
        agents = [f"agent_{index:<2} {'reward':>7} {'KL':>7}" for index in range(args.num_agents)]
        header = "  ".join([f"{'step':>5}", *agents, f"{'tokens/s':>8}", f"{'left':>8}"])
        self._print(header, style="dim")
        self.started, self.first_step = time.monotonic(), state.global_step
        self.progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            # Rich forgets iterations of half a minute before it has seen two.
            TextColumn("{task.fields[left]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task(
            "train", total=state.max_steps, completed=state.global_step, left=""
        )
        self.progress.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.progress is not None:
            left = _duration(self._seconds_left(state))
            self.progress.update(self.task, completed=state.global_step, left=left)

    def _seconds_left(self, state: Any) -> float:
        passed, done = time.monotonic() - self.started, state.global_step - self.first_step
        return passed / max(1, done) * (state.max_steps - state.global_step)

    def on_log(
        self, args: Any, state: Any, control: Any, *, logs: dict[str, float], **_: Any
    ) -> None:
        step, now = state.global_step, time.monotonic()
        if any(key.startswith("eval/") for key in logs):
            line = _line(step, ["alone"] * args.num_agents, logs, "eval/")
            self._print(f"{line}  held out", style="bold")
        elif step == state.max_steps or now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            order = roles_at(step - 1, args.num_agents, args.role_exchange_period)
            roles = [role_name(order.index(index)) for index in range(args.num_agents)]
            left = _duration(self._seconds_left(state))
            ends = f"{logs['tokens_per_second']:>8,.0f}  {left:>8}"
            self._print(f"{_line(step, roles, logs)}  {ends}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.close()
        self._print(f"saved {args.output_dir}/checkpoints/step-{state.global_step}")

    def show_answers(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print what each speaker answered to the first query, with its reward.

        Args:
            rows: those of a file in samples/, one per query and speaker.
        """
        first = [row for row in rows if row["index"] == 0]
        self._print(f"       ┌ {_one_line(first[0]['query'])}", style="dim")
        for row, corner in zip(first, ["├"] * (len(first) - 1) + ["└"], strict=True):
            reward = _number(math.nan if row["task_reward"] is None else row["task_reward"])
            line = f"       {corner} {row['role']:<13} {reward}  {_one_line(row['answer'])}"
            self._print(line, style="dim")

    def close(self) -> None:
        """Take the bar off the screen and give the terminal its cursor back."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def _print(self, line: str, style: str | None = None) -> None:
        # A lost terminal, or a log on a full disk, ends no training.
        with suppress(OSError):
            # A line that is folded at the terminal's width is no table any more.
            self.console.print(model_text(line), style=style, soft_wrap=True)


def _one_line(text: str, width: int = SHOWN_CHARACTERS) -> str:
    r"""The beginning of a text, on one line.

    >>> _one_line("3 + 4 =\n  7", 7)
    '3 + 4 …'
    """
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1].rstrip()} …"


def _team(args: Any) -> str:
    parts = [args.task, args.model_name_or_path or "model", f"agents: {args.num_agents}"]
    if args.role_exchange_period is not None:
        parts.append(f"roles exchanged every {args.role_exchange_period} steps")
    if not args.knowledge_transfer:
        parts.append("no knowledge transfer")
    if args.bf16:
        parts.append("bfloat16")
    return " · ".join(part for part in parts if part)


def _line(step: int, roles: Sequence[str], logs: dict[str, float], prefix: str = "") -> str:
    agents = "  ".join(
        f"{role:<8} {_number(logs[f'{prefix}agent_{index}/task_reward'])} "
        f"{_number(logs[f'{prefix}agent_{index}/kl'])}"
        for index, role in enumerate(roles)
    )
    return f"{step:>5}  {agents}"


def _number(value: float) -> str:
    """As wide as its column; a dash where nothing was paid.

    >>> _number(-0.0001), _number(float("nan"))
    ('  0.000', '      –')
    """
    return f"{'–':>7}" if math.isnan(value) else f"{value:>z7.3f}"


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _duration(3725.4), _duration(61)
    ('1:02:05', '1:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
