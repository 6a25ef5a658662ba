"""Records of a run: config.yaml, metrics.jsonl and environment.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

import yaml

from cory.config import SETTINGS, CORYConfig
from cory.config.saved import CONFIG_FILE, saved_settings
from cory.io.files import is_file, refuse_taken, refuse_unwritable, replace_text, writing
from cory.io.terminal import say
from cory.rewards.failures import RewardFailures
from cory.team.metrics import MetricsFile, read_metrics, record_metrics, transfer_metrics
from cory.team.types import Iteration
from cory.training.alarms import alarms_of
from cory.training.environment import environment

COMMAND = "cory train"
"""What works in a run directory, and keeps others out of it."""


class Records:
    """Writes the settings and numbers of a run into its `output_dir`.

    Only one process `writes`; those beside it count.

    Raises:
        ValueError: the directory holds a run already and `resume` is off, another process trains
            there, or it cannot be written.
    """

    def __init__(self, args: CORYConfig, writes: bool = True) -> None:
        self.args = args
        self.writes = writes
        self.directory = Path(args.output_dir)
        self.samples = 0
        self.tokens = 0
        self.seconds = 0.0
        self.metrics_path = self.directory / "metrics.jsonl"
        self.metrics_file: MetricsFile | None = None
        self.has_begun = False
        self.config_path = self.directory / CONFIG_FILE
        if not args.resume:
            refuse_a_run_in(self.directory)
        if writes:
            refuse_unwritable(self.directory)
            refuse_taken(self.directory, COMMAND)

    def keep(self, failures: RewardFailures) -> None:
        """Count the run's failed calls of reward functions, and keep their samples."""
        self.failures = failures
        failures.directory = self.directory

    def begin_once(self) -> None:
        """Check that nothing was trained yet.

        Raises:
            ValueError: something was.
        """
        if self.has_begun:
            raise ValueError(
                "this trainer has trained already, so its agents are not the initial model any "
                "more: make a new one, which goes on with resume=True or has another output_dir"
            )
        self.has_begun = True

    def begin(self, first_step: int = -1, count: int | None = None) -> None:
        """Write what a run begins with, and open metrics.jsonl after iteration `first_step`.

        `count` records are kept of the file at most; None: all up to that iteration.
        """
        if not self.writes:
            return
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        # First, since it may refuse a damaged file; all else stays then as it is.
        self.metrics_file = MetricsFile(self.metrics_path, first_step, count)
        if self.metrics_file.count < (count or 0):
            say(
                f"cory: {self.metrics_path} has only {self.metrics_file.count} of the {count} "
                "records that came before the checkpoint: the others are lost, from reports, too"
            )
        replace_text(
            self.config_path,
            yaml.safe_dump({**self.args.to_dict(), "resume": False}, sort_keys=False),
        )
        # A finished run that is resumed computes nothing.
        if first_step < self.args.max_steps:
            start = {"after_step": max(0, first_step), **environment()}
            path = self.directory / "environment.jsonl"
            before = path.read_text(errors="replace") if is_file(path) else ""
            replace_text(path, before + json.dumps(start) + "\n")

    def resume(self, first_step: int, totals: Mapping[str, Any]) -> None:
        """Go on after iteration `first_step`; records of later iterations are dropped."""
        # A setting that the file lacks is younger than the run, which had the default.
        saved = saved_settings(self.directory)
        before = {**CORYConfig().to_dict(), **(self.args.to_dict() if saved is None else saved)}
        if saved is None and self.writes:
            say(f"cory: {self.config_path} is lost; resuming under the settings that are given now")
        changed = [
            f"{name}: {before[name]!r} → {value!r}"
            for name, value in self.args.to_dict().items()
            if not SETTINGS[name].resume_may_change and before[name] != value
        ]
        if self.writes and changed:
            say(
                "cory: resuming with other settings than the run began with; its first part and "
                f"its second are different experiments: {'; '.join(changed)}"
            )
        self.samples, self.tokens = totals["samples"], totals["tokens"]
        self.seconds = totals["seconds"]
        self.failures.count = totals.get("reward_failures", 0)
        self.begin(first_step, totals.get("records"))

    def flush(self) -> None:
        """Bring the metrics to the disk, before the checkpoint that goes with them."""
        if self.metrics_file:
            self.metrics_file.flush()

    def totals(self) -> dict[str, float | None]:
        """What has been used so far, for a checkpoint."""
        return {
            "samples": self.samples,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "reward_failures": self.failures.count,
            "records": self.metrics_file.count if self.metrics_file else None,
        }

    def newest(self) -> dict[str, float]:
        """The numbers of the last iteration that was written down; none before the first."""
        for record in reversed(read_metrics(self.metrics_path)):
            if "total_samples" in record:
                del record["step"]
                return {key: nan if value is None else value for key, value in record.items()}
        return {}

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl."""
        if self.metrics_file:
            self.metrics_file.write({"step": step, **metrics})

    def iteration_metrics(
        self,
        iteration: Iteration,
        updates: Mapping[int, Mapping[str, float]],
        seconds: Mapping[str, float],
    ) -> dict[str, float]:
        """All metrics of an iteration, each under its agent and under its role.

        `updates` are what the agents' updates returned, `seconds` how long each phase took.
        """
        metrics: dict[str, float] = {}
        tokens = 0
        for role_index, record in enumerate(iteration.records):
            measured = {
                **record_metrics(record),
                **transfer_metrics(record, iteration.records[:role_index]),
                **updates[record.generation.agent],
            }
            measured["alarms"] = float(len(alarms_of(measured, self.args)))
            for owner in (f"agent_{record.generation.agent}", record.generation.role):
                metrics |= {f"{owner}/{key}": value for key, value in measured.items()}
            tokens += int(record.batch.lengths.sum())
            self.samples += len(record.batch)
        elapsed = sum(seconds.values())
        self.tokens += tokens
        self.seconds += elapsed
        return {
            **metrics,
            **{f"seconds/{phase}": duration for phase, duration in seconds.items()},
            "tokens_per_second": tokens / elapsed if elapsed > 0 else nan,  # a coarse clock
            "total_samples": float(self.samples),
            "total_tokens": float(self.tokens),
            "total_seconds": self.seconds,
            "total_reward_failures": float(self.failures.count),
        }


def refuse_a_run_in(directory: Path) -> None:
    """Check that no run lies in a directory, not even one that lost some of its files.

    Raises:
        ValueError: one does, or a comparison.
    """
    if (directory / "comparison.yaml").exists():
        raise ValueError(
            f"output_dir={str(directory)!r} holds a comparison (comparison.yaml is there): choose "
            "another output_dir"
        )
    found = [
        *directory.glob(CONFIG_FILE),
        *(path for path in directory.glob("metrics.jsonl") if path.stat().st_size),
        *directory.glob("checkpoints/step-*"),
    ]
    if found:
        raise ValueError(
            f"output_dir={str(directory)!r} holds a run already: {found[0].name} is there. "
            "Continue it with resume=True (--resume), or choose another output_dir"
        )


def load_config(directory: Path) -> CORYConfig:
    """The settings of a run.

    Raises:
        ValueError: the directory holds no run, or its settings cannot be read.
    """
    saved = saved_settings(directory)
    if saved is None:
        raise ValueError(f"{directory} is not a run directory: it has no config.yaml")
    return CORYConfig(**saved)
