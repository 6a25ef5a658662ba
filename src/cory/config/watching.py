"""Settings of what shows a run to others, with the docstrings of help and reference."""

from __future__ import annotations

from dataclasses import dataclass

from cory.config.fields import setting


@dataclass(frozen=True, kw_only=True)
class WatchingConfig:
    """Trackers: where a run can be watched."""

    report_to: str | list[str] | None = setting(None, affects_result=False)
    """Trackers of accelerate, one or several: tensorboard, wandb, trackio, mlflow …; all: every one
    that is installed. None or none: no tracker."""
    project: str | None = setting(None, affects_result=False)
    """Project, or experiment, of the run in trackers. None: what the tracker's own variable says,
    such as WANDB_PROJECT, else cory."""
    run_name: str | None = setting(None, affects_result=False)
    """Name of the run in trackers and reports. None: that of `output_dir`."""
