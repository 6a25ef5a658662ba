"""What arms may differ in: the treatment. What they share unless told otherwise: the ground.

The ground is the question (what is asked, paid, of which model, at which length and temperature,
and how it is measured), the objective (what is maximised), and the effort (seed, iterations,
optimizer). The treatment is who learns from whose answers, and how: the team, the advantages, the
clipping, the estimate of the KL, and the samples of an iteration, since PPO at matched compute is a
standard arm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cory.compare.arms import Arm
from cory.config import SETTINGS, refuse_unknown_names

OWN = {
    "output_dir": "a comparison gives each run its directory: set the comparison's output_dir",
    "resume": "a comparison always goes on where it was left: leave it out",
    "seed": "every arm runs with the same seeds: list them under `seeds`",
}
"""Settings that neither an arm nor the base may hold, each with the reason and the fix."""


def refuse_own_settings(names: Iterable[str], where: str) -> None:
    """Check that nobody sets what the comparison sets itself.

    Raises:
        ValueError: names the setting and the fix.
    """
    for name in names:
        if name in OWN:
            raise ValueError(f"{where} sets {name}, but {OWN[name]}")


def refuse_unfair_arms(arms: Mapping[str, Arm], allow: Iterable[str]) -> None:
    """Check that arms differ in their treatment alone, or in what `allow` lists.

    Raises:
        ValueError: names the arm, the setting and the fix.
    """
    allowed = set(allow)
    refuse_unknown_names(allowed)
    refuse_own_settings(allowed, "allow")
    for name, arm in arms.items():
        refuse_unknown_names(arm)
        refuse_own_settings(arm, f"arm {name!r}")
        for setting in arm:
            if not (SETTINGS[setting].arm_may_change or setting in allowed):
                raise ValueError(
                    f"arm {name!r} changes {setting}, on which all arms should stand: set it in "
                    f"the base, or write `allow: [{setting}]` if its effect is what you compare"
                )
