"""Which settings win: options over the file, the file over a run's own, these over the task's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from cory.config import CORYConfig, TaskConfig
from cory.io.yaml import read_yaml
from cory.tasks import task_defaults

TASK_FIELDS = frozenset(field.name for field in fields(TaskConfig))
ANSWER_FIELDS = TASK_FIELDS | {"max_completion_length", "min_completion_length"}
"""Settings that say what is asked, how an answer is paid and how long it may be."""


def training_settings(given: Mapping[str, Any]) -> CORYConfig:
    """Settings of `cory train`.

    What is not given comes from the run that is resumed if there is one, else from the task, else
    from `CORYConfig`.
    """
    saved = saved_settings(Path(given.get("output_dir", CORYConfig.output_dir)))
    if given.get("resume") and saved is not None:
        return CORYConfig(**{**saved, **given})
    return CORYConfig(**{**_defaults_of(given), **given})


def run_settings(saved: Mapping[str, Any], given: Mapping[str, Any]) -> CORYConfig:
    """Settings under which a finished run is looked at; another task brings its own questions.

    Whether to run a model's own code is for the one to say who looks, not for the directory. The
    vLLM server that trained it may be gone: who wants one now says so, too.
    """
    given = {"trust_remote_code": False, "vllm_server_base_url": None, **given}
    if given.get("task") in (None, saved.get("task")):
        return CORYConfig(**{**saved, **given})
    kept = {name: value for name, value in saved.items() if name not in TASK_FIELDS}
    return CORYConfig(**{**kept, **_questions(given), **given})


def model_settings(model: str, given: Mapping[str, Any]) -> CORYConfig:
    """Settings under which a model is looked at: the task's questions, the model as it is named."""
    return CORYConfig(
        **{**_questions(given), **given, "model_name_or_path": model, "num_agents": 1}
    )


def saved_settings(directory: Path) -> dict[str, Any] | None:
    """The config.yaml of a run directory; None if it is not one.

    Raises:
        ValueError: the file cannot be read, or holds something else than settings.
    """
    path = directory / "config.yaml"
    if not path.is_file():
        return None
    saved = read_yaml(path)
    if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
        raise ValueError(f"{path} holds no settings: it must have lines such as `max_steps: 100`")
    return saved


def _defaults_of(given: Mapping[str, Any]) -> dict[str, Any]:
    return {} if given.get("task") is None else task_defaults(given["task"])


def _questions(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in _defaults_of(given).items() if name in ANSWER_FIELDS}
