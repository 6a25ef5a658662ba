"""Every setting of a run: one frozen, flat dataclass, built from the parts beside it.

Field names are those of `transformers.TrainingArguments` and TRL wherever the meaning is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import wraps
from typing import Any

from cory.config.algorithm import AlgorithmConfig
from cory.config.extensions import ExtensionConfig
from cory.config.faults import FaultConfig
from cory.config.model import ModelConfig
from cory.config.processes import ProcessConfig
from cory.config.run import RunConfig
from cory.config.sampling import SamplingConfig
from cory.config.task import TaskConfig
from cory.config.team import TeamConfig
from cory.config.validation import validate


@dataclass(frozen=True, kw_only=True)
class CORYConfig(
    FaultConfig,
    ExtensionConfig,
    ProcessConfig,
    SamplingConfig,
    RunConfig,
    AlgorithmConfig,
    TeamConfig,
    ModelConfig,
    TaskConfig,
):
    """All settings of a run.

    The plain defaults keep the paper's transfer, exchange and shared reward.
    `cory.tasks.for_task("imdb", max_steps=20)` starts from a task's own defaults.

    Raises:
        ValueError: a value breaks a rule; the message names the value, the rule and the fix.
    """

    def __post_init__(self) -> None:
        validate(self)

    @property
    def eval_strategy(self) -> str:
        """`steps` or `no`, as callbacks of transformers ask for it."""
        return "no" if self.eval_steps is None else "steps"

    @property
    def load_best_model_at_end(self) -> bool:
        """Always False: the agents of the last step are the result, every checkpoint is kept."""
        return False

    def replace(self, **changes: Any) -> CORYConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name, as written to config.yaml."""
        return asdict(self)


FIELD_NAMES = frozenset(field.name for field in fields(CORYConfig))


def refuse_unknown_names(names: Iterable[str]) -> None:
    """Check that every name is a setting.

    Raises:
        ValueError: one is not; the message has the nearest that is.
    """
    for name in names:
        if name not in FIELD_NAMES:
            nearest = get_close_matches(name, FIELD_NAMES, n=1)
            fix = f"did you mean {nearest[0]!r}?" if nearest else "`cory train --help` lists them"
            raise ValueError(f"{name!r} is not a setting of CORYConfig: {fix}")


def _refusing_unknown_names(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def checked_init(self: CORYConfig, **settings: Any) -> None:
        refuse_unknown_names(settings)
        init(self, **settings)

    return checked_init


# Python's own message for an unknown keyword knows no alternative.
CORYConfig.__init__ = _refusing_unknown_names(CORYConfig.__init__)
