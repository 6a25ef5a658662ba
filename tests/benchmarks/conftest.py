"""Measurements made up, and the files of one tiny case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import SHAPES, Case
from benchmarks.files import read_texts, save_files
from benchmarks.measurement import Measurement
from benchmarks.products import TimedPass

TINY = Case("tiny", shape="tiny", num_agents=2, batch_size=8, num_tokens=3, steps=2)


@pytest.fixture(scope="session")
def tiny_case() -> Case:
    """Two agents, eight answers of three tokens each."""
    return TINY


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and prompts of the tiny case."""
    directory = tmp_path_factory.mktemp("benchmark")
    save_files(directory, TINY, SHAPES["tiny"], read_texts(None))
    return directory


@pytest.fixture
def make_measurement() -> Callable[..., Measurement]:
    """What a process measured on a case, at 1 s of generation and 3 s of learning.

    A step is bound by memory (0.5 s), a pass of learning by its products (0.75 s).
    """

    def make(case: Case = TINY, **changes: Any) -> Measurement:
        fields: dict[str, Any] = {
            "case": case,
            "laps": [{"generate": (1.0, 2.0), "update": (3.0, 4.0)}],
            "total_tokens": 2 * case.answer_tokens,
            "answer_tokens": case.answer_tokens,
            "optimizer_steps": case.optimizer_steps,
            "peak_bytes": 10**9,
            "matrix_rate": 1e6,
            "memory_rate": 1e9,
            "passes": [
                TimedPass("generate", "a step", 2.0, 4e5, 5e8, 0.25),
                TimedPass("update", "by_inputs", 4.0, 5e5, 5e8, 0.75),
            ],
            "body_weights": 1000,
            "head_weights": 100,
            "model_bytes": 4400,
            "versions": {"python": "3.11", "torch": "2", "cory": "0.1", "trl": "1.16"},
        }
        return Measurement(**(fields | changes))

    return make
