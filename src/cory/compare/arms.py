"""Arms of a comparison: what each changes of the base, by name of setting. No torch.

Arms may differ in the treatment: who learns from whose answers, and how. That is the team, the
advantages, the clipping, the estimate of the KL, and the samples of an iteration, since PPO at
matched compute is a standard arm. They share the ground unless told otherwise: the question (what
is asked, paid, of which model, at which length and temperature, and how it is measured), the
objective (what is maximised), and the effort (seed, iterations, optimizer).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cory.config import SETTINGS, refuse_unknown_names
from cory.config.presets import preset_settings


@dataclass(frozen=True)
class Times:
    """A multiple of what the base says: `Times(2)`, in YAML `x2`.

    >>> str(Times(2)), Times.parse("x0.5"), Times.parse("2")
    ('x2', Times(factor=0.5), None)
    """

    factor: float

    def __str__(self) -> str:
        return f"x{self.factor:g}"

    @classmethod
    def parse(cls, value: Any) -> Times | None:
        """What a value of a YAML file says, None if it is no multiple."""
        match = re.fullmatch(r"[x×]\s*(\d+(?:\.\d+)?)", value) if isinstance(value, str) else None
        return None if match is None else cls(float(match[1]))

    def of(self, name: str, value: Any) -> int | float:
        """The multiple of the setting `name`, whose base value is `value`.

        Raises:
            ValueError: the base has no number there, or a whole number would become a broken one.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name}: {self} needs a number in the base, which has {value!r}")
        product = value * self.factor
        if not isinstance(value, int):
            return product
        if not math.isfinite(product):
            raise ValueError(f"{name}: {self} of {value} is too large")
        if product != int(product):
            raise ValueError(f"{name}: {self} of {value} is {product:g}, not a whole number")
        return int(product)


Arm = Mapping[str, Any]
"""Settings that an arm changes, by name; a value may be `Times`."""

_SINGLE: dict[str, Any] = {"num_agents": 1}
_TEAM: dict[str, Any] = {"num_agents": 2}
_GROUP: dict[str, Any] = {"advantage_estimator": "group", "num_generations": 4}
_LEAVE_ONE_OUT: dict[str, Any] = {"advantage_estimator": "leave_one_out", "num_generations": 4}

STANDARD_ARMS: dict[str, Arm] = {
    "ppo": _SINGLE,
    "ppo-2x": {**_SINGLE, "batch_size": Times(2)},
    "ppo-2x-ema": {**_SINGLE, "batch_size": Times(2), "weight_average_decay": 0.9},
    "ppo-reset": {**_SINGLE, "reset_on_exchange": True},
    "cory": _TEAM,
    "cory-no-transfer": {**_TEAM, "knowledge_transfer": False},
    "cory-no-exchange": {**_TEAM, "role_exchange_period": None},
    "cory-own-reward": {**_TEAM, "partner_reward_weight": 0.0},
    "cory-reset": {**_TEAM, "reset_on_exchange": True},
    "competitive": {**_TEAM, "partner_reward_weight": -1.0},
    "grpo": {**_SINGLE, **_GROUP},
    "rloo": {**_SINGLE, **_LEAVE_ONE_OUT},
    "reinforce": {**_SINGLE, "advantage_estimator": "reinforce"},
    "elastic-reset": {**_SINGLE, "elastic_reset_period": 17},
    "cory-grpo": {**_TEAM, **_GROUP},
    "cory-rloo": {**_TEAM, **_LEAVE_ONE_OUT},
    "cory-3": {"num_agents": 3},
    "team": preset_settings("team"),
}
"""The arms with a name. What an arm does not name is the base's: `cory` is the paper's team as long
as the base keeps the plain defaults of transfer, exchange and shared reward.

- `ppo-2x` sees as many samples as a team of two: the control for compute. `ppo-2x-ema` is measured
  by the moving average of its weights: the control for anything that averages.
- `ppo-reset` and `cory-reset` lose their state as the paper's reference code does.
- `grpo` and `rloo` take the advantage estimator alone from those methods; the KL stays where the
  base puts it. `batch_size` counts answers, so four answers to each of fewer queries cost the same.
- `team` is the preset of that name: the best we know, not the paper's.
- `elastic-reset` has the period of the paper's IMDB experiment (Appendix E.3)."""


def resolve(arm: Arm, base: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an arm as plain values.

    >>> resolve({"num_agents": 1, "batch_size": Times(2)}, {"batch_size": 64})
    {'num_agents': 1, 'batch_size': 128}
    """
    return {
        name: value.of(name, base.get(name)) if isinstance(value, Times) else value
        for name, value in arm.items()
    }


OWN = {
    "output_dir": "a comparison gives each run its directory: set the comparison's output_dir",
    "resume": "a comparison always goes on where it was left: leave it out",
    "seed": "every arm runs with the same seeds: list them under `seeds`",
}
"""Settings that neither an arm nor the base may hold, each with the reason and the fix."""


def refuse_wrong_names(names: Collection[str], where: str) -> None:
    """Check that all names are settings, and none of them one that the comparison sets itself.

    Raises:
        ValueError: names the setting and the fix.
    """
    refuse_unknown_names(names)
    for name in names:
        if name in OWN:
            raise ValueError(f"{where} sets {name}, but {OWN[name]}")


def refuse_unfair_arms(arms: Mapping[str, Arm], allow: Collection[str]) -> None:
    """Check that arms differ in their treatment alone, or in what `allow` lists.

    Raises:
        ValueError: names the arm, the setting and the fix.
    """
    refuse_wrong_names(allow, "allow")
    for name, arm in arms.items():
        refuse_wrong_names(arm, f"arm {name!r}")
        for setting in arm:
            if not (SETTINGS[setting].arm_may_change or setting in allow):
                raise ValueError(
                    f"arm {name!r} changes {setting}, on which all arms should stand: set it in "
                    f"the base, or write `allow: [{setting}]` if its effect is what you compare"
                )
