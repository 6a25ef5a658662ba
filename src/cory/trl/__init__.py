"""TRL's trainers and their arguments on cory: change `from trl import` to `from cory.trl import`.

`arguments` and `objectives` are the table that says what becomes of each field of TRL;
`translate` reads it. The trainers have TRL's surface around a `CORYTrainer`.
"""

from __future__ import annotations

import importlib
from typing import Any

from cory.trl.config import GRPOConfig, PPOConfig, RLOOConfig
from cory.trl.groups import GRPOTrainer, RLOOTrainer
from cory.trl.ppo import PPOTrainer

__all__ = ["GRPOConfig", "GRPOTrainer", "PPOConfig", "PPOTrainer", "RLOOConfig", "RLOOTrainer"]


def __getattr__(name: str) -> Any:
    """What a script imports beside the trainers, such as `TrlParser`, is TRL's own."""
    try:
        return getattr(importlib.import_module("trl"), name)
    except ImportError as error:
        raise AttributeError(
            f"module 'cory.trl' has no {name!r}; with TRL installed (pip install trl) it is "
            f"TRL's: it has {', '.join(__all__)}"
        ) from error
