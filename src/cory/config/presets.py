"""Settings with a name: `cory train --preset paper`, `--recipe gsm8k-qwen`.

A preset says how a team learns. What is learnt and at what size, rates and KL coefficients
included, is the task's. A recipe says all of a training.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from cory.config.losses import LossConfig
from cory.config.themes import ExtensionsConfig
from cory.io.files import look_up

NOTHING_ELSE = {
    field.name: field.default for theme in (ExtensionsConfig, LossConfig) for field in fields(theme)
}
"""Every setting beyond the paper, off."""

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "num_agents": 2,
        "knowledge_transfer": True,
        "role_exchange_period": 5,
        "partner_reward_weight": 1.0,
        "reset_on_exchange": False,
        "advantage_estimator": "gae",
        "num_generations": 1,
        "gamma": 1.0,
        "lam": 0.95,
        "whiten_advantages": None,
        "cliprange": 0.2,
        "cliprange_value": 0.2,
        "vf_coef": 0.1,
        "kl_estimator": "full",
        "kl_placement": "reward",
        "kl_controller": "fixed",
        "target_kl": None,
        "elastic_reset_period": None,
        **NOTHING_ELSE,
    },
    "team": {
        "num_agents": 2,
        "partner_reward_weight": 0.0,
        "partner_samples_weight": 1.0,
        "transfer_back_weight": 0.1,
        "merge_on_exchange": 1.0,
        "weight_average_decay": 0.9,
    },
}
"""By name. They win over a task's defaults; a settings file and options win over them.

`paper` is the method of arXiv 2410.06101: Eq 2–4 and 8–13, Algorithm 1 and the constants that its
two experiments share. Their schedules come with the tasks `imdb` and `gsm8k`. Normalized
rewards, which the paper does not have, are a matter of the task too: arms of a comparison must not
differ in them.

`team` is the best team measured so far (docs/explanation/results). Each agent is paid for its own
answer, learns from all answers to the plain query and from the better ones of those who saw more;
the two become one at every exchange, and what counts is the average over time.
"""


def recipe_path(name: str) -> Path:
    """The settings file of a recipe, which comes with the package.

    Raises:
        ValueError: there is no such recipe; the message lists those there are.
    """
    return look_up("recipe", name, recipes())


def recipes() -> dict[str, Path]:
    """The settings files that come with the package, by name."""
    directory = Path(__file__).parents[1] / "recipes"
    return {path.stem: path for path in sorted(directory.glob("*.yaml"))}


def preset_settings(name: str | None) -> dict[str, Any]:
    """The settings of a preset, {} for None.

    Raises:
        ValueError: there is no such preset; the message lists those there are.
    """
    return {} if name is None else dict(look_up("preset", name, PRESETS))
