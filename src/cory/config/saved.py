"""Settings of a finished run: its config.yaml, and what replaced those of earlier versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cory.io.yaml import read_yaml

CONFIG_FILE = "config.yaml"

Settings = Mapping[str, Any]


def _rewards(old: Settings) -> dict[str, Any] | None:
    scaled, centred = old.get("use_score_scaling", False), old.get("use_score_norm", False)
    return {"normalize_rewards": scaled} if scaled == centred else None


def _alarms(old: Settings) -> dict[str, Any]:
    thresholds = ("min_entropy", "max_kl_per_token", "min_unique_share")
    if all(old.get(name, "default") is None for name in thresholds):
        return {"collapse_alarms": "off"}
    return {"collapse_alarms": "warn" if old.get("alarm_patience") is None else "stop"}


def _transfer_back(old: Settings) -> dict[str, Any] | None:
    had_no_effect = old.get("transfer_back_weight", 0.0) == 0
    return {} if old["transfer_back"] == "likelihood" or had_no_effect else None


@dataclass(frozen=True)
class Replacement:
    """What replaced one or several old settings."""

    old: tuple[str, ...]
    advice: str
    """What to write instead, for an error message."""
    today: Callable[[Settings], dict[str, Any] | None]
    """Today's settings with the effect that a run's old ones had; None if there are none."""


REPLACEMENTS = (
    Replacement(
        ("use_score_scaling", "use_score_norm"),
        "set normalize_rewards, which subtracts the running mean and divides by the running "
        "standard deviation",
        _rewards,
    ),
    Replacement(
        ("min_entropy", "max_kl_per_token", "min_unique_share", "alarm_patience"),
        "set collapse_alarms to off, warn or stop; its thresholds are fixed",
        _alarms,
    ),
    Replacement(
        ("vllm_request_timeout",),
        "set vllm_server_timeout, which limits a single request, too",
        lambda old: {},
    ),
    Replacement(
        ("vllm_importance_sampling_correction",),
        "set vllm_importance_sampling_clip_max to the largest weight, or to null for no correction",
        lambda old: (
            {"vllm_importance_sampling_clip_max": None}
            if old["vllm_importance_sampling_correction"] is False
            else {}
        ),
    ),
    Replacement(
        ("credit",),
        "set partner_reward_weight: 1 shares all rewards, 0 pays each agent for its own answers",
        lambda old: {"collective": {}, "own": {"partner_reward_weight": 0.0}}.get(
            str(old["credit"])
        ),
    ),
    Replacement(
        ("observer_generations",),
        "leave it out; observers give as many answers as the pioneer, batch_size of them",
        lambda old: {} if old["observer_generations"] == 1 else None,
    ),
    Replacement(
        ("transfer_back",),
        "leave it out; transfer_back_weight is the weight of the likelihood, the one way there is",
        _transfer_back,
    ),
)
ADVICE = {name: replaced.advice for replaced in REPLACEMENTS for name in replaced.old}
"""What to write instead of a setting of an earlier version, by its name."""


def todays_settings(saved: Settings) -> dict[str, Any]:
    """A finished run's settings under today's names.

    Old names stay where no setting of today has the same effect; `CORYConfig` refuses them.
    """
    settings = dict(saved)
    for replaced in REPLACEMENTS:
        is_used = any(name in settings for name in replaced.old)
        if is_used and (today := replaced.today(saved)) is not None:
            settings = {name: settings[name] for name in settings if name not in replaced.old}
            settings |= today
    return settings


def saved_settings(directory: Path) -> dict[str, Any] | None:
    """Read the config.yaml of a run directory, with old names replaced by today's.

    Returns:
        settings by name, not checked; None if the directory has no config.yaml.

    Raises:
        ValueError: the file cannot be read, or holds something else than settings.
    """
    path = directory / CONFIG_FILE
    try:
        is_there = path.is_file()
    except OSError as error:
        raise ValueError(f"{str(path)!r:.300} cannot be read: {error.strerror}") from error
    if not is_there:
        return None
    saved = read_yaml(path)
    if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
        raise ValueError(f"{path} holds no settings: it must have lines such as `max_steps: 100`")
    return todays_settings(saved)
