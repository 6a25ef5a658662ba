"""Settings of what shows a run to others, with the docstrings of help and reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cory.config.fields import NAME, setting


@dataclass(frozen=True, kw_only=True)
class WatchingConfig:
    """Trackers, the Hub and the console: where a run is watched, and where its agents go."""

    report_to: str | list[str] | None = setting(None, affects_result=False)
    """Trackers of accelerate, one or several: tensorboard, wandb, trackio, mlflow …; all: every one
    that is installed. None or none: no tracker."""
    project: str | None = setting(None, affects_result=False)
    """Project, or experiment, of the run in trackers. None: what the tracker's own variable says,
    such as WANDB_PROJECT, else cory."""
    run_name: str | None = setting(None, affects_result=False)
    """Name of the run in trackers and reports. None: that of `output_dir`."""
    push_to_hub: bool = setting(False, affects_result=False)
    """Upload every agent to the Hugging Face Hub at the end of training, as `cory push` does."""
    hub_model_id: str | None = setting(None, NAME, affects_result=False)
    """Repository on the Hub: NAME or OWNER/NAME. Each agent of several gets its own, with -0,
    -1 … behind the name. None: the name of `output_dir`."""
    hub_private_repo: bool | None = setting(None, affects_result=False)
    """Make new repositories private, or public. None: as the owner's account says."""
    quiet: bool = setting(False, affects_result=False)
    """Print no progress and no sample answers. Warnings, and what was saved, are still said."""
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "warning", affects_result=False
    )
    """Least important messages of transformers, datasets, accelerate and peft that are shown."""
