"""CORY: fine-tune a language model by reinforcement learning as a team.

The public names are resolved on first use, so that `import cory` and `cory --help` take
milliseconds: torch and transformers are loaded by the package that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import cory.io.quiet  # noqa: F401  before the first library speaks

if TYPE_CHECKING:
    from cory.config import CORYConfig
    from cory.tasks import for_task
    from cory.training.trainer import CORYTrainer, PPOTrainer

__version__ = "0.1.0"
__all__ = ["CORYConfig", "CORYTrainer", "PPOTrainer", "__version__", "for_task"]

_HOME = {
    "CORYConfig": "cory.config",
    "CORYTrainer": "cory.training.trainer",
    "PPOTrainer": "cory.training.trainer",
    "for_task": "cory.tasks",
}


def __getattr__(name: str) -> Any:
    """Import the public name's module and return the name (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'cory' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
