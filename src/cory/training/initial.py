"""Answers of the initial model, which the runs of a comparison share."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from cory.config import SETTINGS, CORYConfig
from cory.io.checksums import file_digest
from cory.team.known_answers import KnownAnswers
from cory.training.environment import environment

SHARED_ANSWERS = "CORY_SHARED_ANSWERS"
"""The variable that names the directory in which the runs of a comparison share answers."""
OF_LEARNING = frozenset({"kl_coef", "learning_rate"})
"""Settings on which no answer of the initial model depends, beside those that arms may change."""
LIBRARY_VARIABLES = ("ATEN_", "CUBLAS_", "CUDA_", "DNNL_", "KMP_", "MKL_", "NVIDIA_", "OMP_")
LIBRARY_VARIABLES += ("ONEDNN_", "PYTORCH_", "TORCH")
"""How variables begin that change how libraries compute."""


def initial_answers(args: CORYConfig) -> KnownAnswers:
    """Where a run looks for answers of its agents before they have learnt anything.

    Agents that start as equal models answer once. A run of a comparison also looks at what the runs
    before it have kept.
    """
    shared = os.environ.get(SHARED_ANSWERS)
    return KnownAnswers(_ground(args), Path(shared) if shared else None)


def _ground(args: CORYConfig) -> dict[str, Any]:
    """All that makes a number beside models and prompts; what is new in it counts by itself."""
    settings = {
        name: value
        for name, value in args.to_dict().items()
        if SETTINGS[name].affects_result
        and not SETTINGS[name].arm_may_change
        and name not in OF_LEARNING
    }
    return {
        "settings": settings,
        "environment": environment(),
        "sources": _sources(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "precision": torch.get_float32_matmul_precision(),
        "variables": {
            name: value for name, value in os.environ.items() if name.startswith(LIBRARY_VARIABLES)
        },
    }


def _sources() -> str:
    """The digest of cory's own code, of which a commit says nothing where it has changed."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    return hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest()
