"""Comparisons: arms × seeds × KL coefficients × learning rates, run side by side and summed up.

    plan → running → results → summary

`cory.report` makes a page of what is written here. Names are resolved on first use: a plan needs
neither pandas nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cory.compare.plan import Comparison
    from cory.compare.results import load_results
    from cory.compare.running import run_comparison

__all__ = ["Comparison", "load_results", "run_comparison"]

_HOME = {"Comparison": "plan", "load_results": "results", "run_comparison": "running"}


def __getattr__(name: str) -> Any:
    """Import the public name's module and return the name (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'cory.compare' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cory.compare.{_HOME[name]}"), name)
