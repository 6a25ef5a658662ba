"""All settings of a run: one frozen, flat dataclass.

Field names are those of `transformers.TrainingArguments` and TRL wherever the meaning is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import wraps
from typing import Any

from cory.config import themes
from cory.config.answers import AnswersConfig
from cory.config.fields import Facts, facts_of
from cory.config.losses import LossConfig
from cory.config.names import fix
from cory.config.rules import trackers_of
from cory.config.sampling import SamplingConfig
from cory.config.saved import ADVICE
from cory.config.validation import refuse_problems, validate
from cory.config.watching import WatchingConfig


# The one list of themes. A dataclass takes the fields of its last base first.
@dataclass(frozen=True, kw_only=True)
class CORYConfig(
    themes.FaultsConfig,
    themes.ExtensionsConfig,
    themes.ProcessesConfig,
    themes.ServerConfig,
    WatchingConfig,
    themes.RunConfig,
    SamplingConfig,
    LossConfig,
    themes.AlgorithmConfig,
    themes.TeamConfig,
    themes.ModelConfig,
    AnswersConfig,
    themes.TaskConfig,
):
    """All settings of a run.

    The defaults have the paper's transfer, exchange and shared reward.
    `cory.tasks.for_task("imdb", max_steps=20)` starts from a task's own defaults.

    Raises:
        ValueError: some values break a rule, or a name is not a setting. The message lists all of
            them, each with the value, the rule and the fix.
    """

    def __post_init__(self) -> None:
        validate(self)

    @property
    def eval_strategy(self) -> str:
        """`steps` or `no`, as callbacks of transformers read it."""
        return "no" if self.eval_steps is None else "steps"

    @property
    def load_best_model_at_end(self) -> bool:
        """Always False: the agents of the last step are the result, every checkpoint is kept."""
        return False

    @property
    def trackers(self) -> list[str]:
        """The trackers of `report_to`; [] for none."""
        return trackers_of(self.report_to)

    def replace(self, **changes: Any) -> CORYConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name, as written to config.yaml."""
        return asdict(self)


THEMES: Mapping[str, type] = {
    theme.__name__.removesuffix("Config").lower(): theme for theme in reversed(CORYConfig.__bases__)
}
"""The dataclass of each theme, in the order of fields."""

SETTINGS: Mapping[str, Facts] = {field.name: facts_of(field) for field in fields(CORYConfig)}
"""The facts about each setting, by its name."""

FIELD_NAMES = frozenset(SETTINGS)
LISTED = ": `cory train --help` lists them"


def unknown_setting(name: str) -> str:
    """The error message for a name that is not a setting: what to write instead."""
    if name in ADVICE:
        return f"{name!r} is no longer a setting of CORYConfig: {ADVICE[name]}"
    return f"{name!r} is not a setting of CORYConfig{fix(name, FIELD_NAMES) or LISTED}"


def refuse_unknown_names(names: Iterable[str]) -> None:
    """Check that every name is a setting.

    Raises:
        ValueError: some are not; the message has the fix for each.
    """
    refuse_problems([unknown_setting(name) for name in names if name not in FIELD_NAMES])


def _refusing_unknown_names(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def checked_init(self: CORYConfig, **settings: Any) -> None:
        refuse_unknown_names(settings)
        init(self, **settings)

    return checked_init


# Python's own message for an unknown keyword knows no alternative.
CORYConfig.__init__ = _refusing_unknown_names(CORYConfig.__init__)
