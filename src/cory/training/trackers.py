"""Trackers of accelerate: what a run sends to wandb, trackio, TensorBoard, MLflow and others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from cory.config import CORYConfig
from cory.io.urls import without_password

PROJECT = "cory"
"""Of runs that name none."""
PROJECT_VARIABLES = {
    "wandb": "WANDB_PROJECT",
    "trackio": "TRACKIO_PROJECT",
    "comet_ml": "COMET_PROJECT_NAME",
    "clearml": "CLEARML_PROJECT",
    "swanlab": "SWANLAB_PROJECT",
    "mlflow": "MLFLOW_EXPERIMENT_NAME",
}
"""Variables of the environment that name the project where the settings do not."""
RUN_KEYWORDS = {"wandb": "name", "trackio": "name", "mlflow": "run_name"}
"""How a tracker's own start is told the name of the run."""
MAX_QUERIES = 20
"""Rows of a table of answers; samples/ has all."""
ANSWERS = "answers"
"""Name of the table of answers."""


class Trackers:
    """Sends settings, metrics and answers to the trackers of `args`; nothing without any."""

    def __init__(self, accelerator: Accelerator, args: CORYConfig) -> None:
        self.accelerator = accelerator
        self.args = args

    def start(self) -> None:
        """Begin a run in every tracker, under its project and name, and send the settings."""
        if not self.args.trackers:
            return
        self.accelerator.log_with = [self._make(str(name)) for name in self.accelerator.log_with]
        self.accelerator.init_trackers(PROJECT, flat_settings(self.args))

    def _make(self, name: str) -> Any:
        args, kind = self.args, LOGGER_TYPE_TO_CLASS[name]
        if kind.requires_logging_directory:
            # Its run is a folder.
            return kind(args.run_name or args.project or PROJECT, args.output_dir)
        variable = os.environ.get(PROJECT_VARIABLES.get(name, ""))
        run = args.run_name or Path(args.output_dir).resolve().name
        keyword = RUN_KEYWORDS.get(name)
        return kind(args.project or variable or PROJECT, **({keyword: run} if keyword else {}))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the numbers of an iteration or an evaluation."""
        if self.args.trackers:
            self.accelerator.log(dict(metrics), step=step)

    def log_answers(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send a table with a row per query, where a tracker has tables or texts.

        Args:
            step: iteration of the answers.
            rows: those of a file in samples/, one per query and speaker.
        """
        if not self.args.trackers or not self.accelerator.is_main_process:
            return
        table = answers_table(rows)
        for tracker in self.accelerator.trackers:
            send = TABLES.get(tracker.name)
            if send is not None:
                send(tracker, step, table)

    def finish(self) -> None:
        """End the run in every tracker."""
        if self.args.trackers:
            self.accelerator.end_training()


def answers_table(
    rows: Sequence[Mapping[str, Any]], most: int = MAX_QUERIES
) -> dict[str, list[Any]]:
    """A column for the query, and for every speaker's answer, reward and KL; a row per query.

    >>> row = {"query": "2+2=", "index": 0, "task_reward": 1.0, "kl": 0.5}
    >>> answers_table([row | {"role": "pioneer", "answer": "4"}])
    {'query': ['2+2='], 'pioneer': ['4'], 'pioneer reward': [1.0], 'pioneer KL': [0.5]}
    """
    table: dict[str, list[Any]] = {"query": []}
    speakers = dict.fromkeys(row["role"] for row in rows)
    for role in speakers:
        own = [row for row in rows if row["role"] == role and row["index"] < most]
        table["query"] = [row["query"] for row in own]
        table[role] = [row["answer"] for row in own]
        table[f"{role} reward"] = [row["task_reward"] for row in own]
        table[f"{role} KL"] = [row["kl"] for row in own]
    return table


def markdown(table: Mapping[str, Sequence[Any]]) -> str:
    r"""A table as Markdown, its cells on one line each.

    >>> print(markdown({"query": ["a|b\nc"], "reward": [0.25]}))
    | query | reward |
    |---|---|
    | a\|b c | 0.25 |
    """
    lines = [list(table), ["---"] * len(table), *zip(*table.values(), strict=True)]
    texts = [[_cell(value) for value in line] for line in lines]
    rows = [f"| {' | '.join(line)} |" for line in texts]
    return "\n".join([rows[0], rows[1].replace(" ", ""), *rows[2:]])


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _to_tensorboard(tracker: Any, step: int, table: dict[str, list[Any]]) -> None:
    tracker.writer.add_text(ANSWERS, markdown(table), global_step=step)
    tracker.writer.flush()


def _to_wandb(tracker: Any, step: int, table: dict[str, list[Any]]) -> None:
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    tracker.log_table(ANSWERS, columns=list(table), data=rows, step=step)


def _to_trackio(tracker: Any, step: int, table: dict[str, list[Any]]) -> None:
    import pandas
    import trackio  # pyright: ignore[reportMissingImports]

    tracker.log({ANSWERS: trackio.Table(dataframe=pandas.DataFrame(table))}, step=step)


def _to_mlflow(tracker: Any, step: int, table: dict[str, list[Any]]) -> None:
    import mlflow  # pyright: ignore[reportMissingImports]

    mlflow.log_table(table, f"{ANSWERS}/step-{step:06d}.json")


TABLES = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
    "trackio": _to_trackio,
    "mlflow": _to_mlflow,
}
"""How each tracker that has tables or texts takes one."""


def flat_settings(args: CORYConfig) -> dict[str, Any]:
    """Settings as every tracker can store them."""
    return {
        name: value if isinstance(value, (int, float, bool)) else without_password(str(value))
        for name, value in args.to_dict().items()
    }
