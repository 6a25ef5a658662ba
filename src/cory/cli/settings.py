"""Which settings win: options over the file, the file over a run's own, these over the task's.

And the run or the model that a command looks at, opened under them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cory.assets import asset_path
from cory.config import SETTINGS, THEMES, CORYConfig
from cory.config.saved import saved_settings
from cory.tasks import task_defaults

if TYPE_CHECKING:
    from cory.training.runs import Subject

TASK_FIELDS = frozenset(
    field.name for theme in ("task", "answers") for field in fields(THEMES[theme])
)
NOT_OF_THE_RUN = {
    name: getattr(CORYConfig, name) for name, facts in SETTINGS.items() if not facts.read_from_run
}
"""Defaults of the settings that are not read from a run's directory."""


def training_settings(given: Mapping[str, Any]) -> CORYConfig:
    """Settings of `cory train`.

    What is not given comes from the run that is resumed if there is one, else from the task, else
    from `CORYConfig`.
    """
    if given.get("resume"):
        saved = saved_settings(Path(given.get("output_dir", CORYConfig.output_dir)))
        if saved is not None:
            return CORYConfig(**{**saved, **given})
    return CORYConfig(**{**_defaults_of(given), **given})


def run_settings(saved: Mapping[str, Any], given: Mapping[str, Any]) -> CORYConfig:
    """Settings under which a finished run is looked at; another task brings its own questions.

    Whether to run a model's own code is for the one to say who looks, not for the directory. The
    vLLM server that trained it may be gone: who wants one now says so, too.
    """
    given = {**NOT_OF_THE_RUN, **given}
    if given.get("task") in (None, saved.get("task")):
        return CORYConfig(**{**saved, **given})
    kept = {name: value for name, value in saved.items() if name not in TASK_FIELDS}
    return CORYConfig(**{**kept, **_questions(given), **given})


def model_settings(model: str, given: Mapping[str, Any]) -> CORYConfig:
    """Settings under which a model is looked at: the task's questions, the model as it is named."""
    return CORYConfig(
        **{**_questions(given), **given, "model_name_or_path": model, "num_agents": 1}
    )


def open_target(options: Mapping[str, Any], given: Mapping[str, Any]) -> Subject:
    """Open the run or the model that a command looks at.

    Args:
        options: of the command: `target`, `step` of a run, perhaps the `reference` of a model.
        given: settings.

    Raises:
        ValueError: there is no such run or model, or it does not fit the settings.
    """
    target = options["target"]
    saved = saved_settings(Path(target))
    if saved is None:
        # Before libraries are loaded that take seconds.
        asset_path(target)
    args = model_settings(target, given) if saved is None else run_settings(saved, given)

    from cory.cli.libraries import quieten

    quieten()
    from cory.training.runs import open_model, open_run

    if saved is None:
        return open_model(target, args, options.get("reference"))
    return open_run(Path(target), args, options["step"])


def _defaults_of(given: Mapping[str, Any]) -> dict[str, Any]:
    return {} if given.get("task") is None else task_defaults(given["task"])


def _questions(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in _defaults_of(given).items() if name in TASK_FIELDS}
