"""Settings of earlier versions: what replaced them, and what they mean today in a finished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Settings = Mapping[str, Any]


def _rewards(old: Settings) -> dict[str, Any] | None:
    scaled, centred = old.get("use_score_scaling", False), old.get("use_score_norm", False)
    return {"normalize_rewards": scaled} if scaled == centred else None


def _alarms(old: Settings) -> dict[str, Any]:
    thresholds = ("min_entropy", "max_kl_per_token", "min_unique_share")
    if all(old.get(name, "default") is None for name in thresholds):
        return {"collapse_alarms": "off"}
    return {"collapse_alarms": "warn" if old.get("alarm_patience") is None else "stop"}


def _importance_sampling(old: Settings) -> dict[str, Any]:
    is_off = old["vllm_importance_sampling_correction"] is False
    return {"vllm_importance_sampling_clip_max": None} if is_off else {}


def _credit(old: Settings) -> dict[str, Any] | None:
    return {"collective": {}, "own": {"partner_reward_weight": 0.0}}.get(str(old["credit"]))


def _observer_generations(old: Settings) -> dict[str, Any] | None:
    return {} if old["observer_generations"] == 1 else None


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
        _importance_sampling,
    ),
    Replacement(
        ("credit",),
        "set partner_reward_weight: 1 shares all rewards, 0 pays each agent for its own answers",
        _credit,
    ),
    Replacement(
        ("observer_generations",),
        "leave it out; observers give as many answers as the pioneer, batch_size of them",
        _observer_generations,
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
        if not settings.keys() & set(replaced.old):
            continue
        today = replaced.today(saved)
        if today is not None:
            settings = {
                name: value for name, value in settings.items() if name not in replaced.old
            } | today
    return settings
