"""Progress for a person: a bar with the time left, and a line per agent and role."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from cory.roles import role_name, roles_at

SECONDS_BETWEEN_LINES = 2.0


class Console(TrainerCallback):
    """Prints what is logged; nothing here changes training."""

    def __init__(self, console: RichConsole | None = None) -> None:
        self.console = console or RichConsole(stderr=True, highlight=False)
        self.progress: Progress | None = None
        self.last_line = -SECONDS_BETWEEN_LINES

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        mechanisms = (
            f"{args.num_agents} agents, exchange every {args.role_exchange_period} steps, "
            f"{'with' if args.knowledge_transfer else 'without'} transfer, {args.credit} credit"
        )
        self.console.print(f"[bold]cory[/bold] → {args.output_dir}: {mechanisms}")
        self.progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.task = self.progress.add_task(
            "train", total=state.max_steps, completed=state.global_step
        )
        self.progress.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        is_evaluation = any(key.startswith("eval/") for key in logs)
        now = time.monotonic()
        is_last = state.global_step == state.max_steps
        if is_evaluation:
            self.console.print(_evaluation_line(args, state, logs))
        elif is_last or now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            self.console.print(_training_line(args, state, logs))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == state.max_steps:
            self.console.print(f"saved {args.output_dir}/checkpoints/step-{state.global_step}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def _training_line(args: Any, state: Any, logs: dict[str, float]) -> str:
    order = roles_at(state.global_step - 1, args.num_agents, args.role_exchange_period)
    speakers = "  ".join(
        f"agent_{agent} {role_name(place):<8} reward {logs[f'agent_{agent}/task_reward']:6.3f} "
        f"kl {logs[f'agent_{agent}/kl']:6.3f}"
        for place, agent in enumerate(order)
    )
    return f"{state.global_step:>5}  {speakers}  {logs['tokens_per_second']:,.0f} tokens/s"


def _evaluation_line(args: Any, state: Any, logs: dict[str, float]) -> str:
    agents = "  ".join(
        f"agent_{agent} alone    reward {logs[f'eval/agent_{agent}/task_reward']:6.3f} "
        f"± {logs[f'eval/agent_{agent}/task_reward_ci95']:.3f} "
        f"kl {logs[f'eval/agent_{agent}/kl']:6.3f}"
        for agent in range(args.num_agents)
    )
    return f"[bold]{state.global_step:>5}  {agents}  (held out)[/bold]"
