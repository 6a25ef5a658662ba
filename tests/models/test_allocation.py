"""Freed memory stays with the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cory.models.cpu import SETTINGS_OF_THE_USER
from cory.training import setup as components
from tests.tiny_runs import trainer

PAGES_CLEARED = """
import resource, sys, torch
from cory.models.cpu import keep_freed_memory
kept = keep_freed_memory()
def work():
    tensors = [torch.ones(2**22) for _ in range(12)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
before = faults()
for _ in range(5):
    work()
print(kept, faults() - before)
"""
PAGES = 5 * 12 * 2**22 * 4 // 4096
"""What the system has to clear if it gets back everything: five times 200 MB."""


def cleared(environment: dict[str, str]) -> tuple[str, int]:
    """Whether memory is kept, and how many pages the system cleared in the loop."""
    output = subprocess.run(
        [sys.executable, "-c", PAGES_CLEARED],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    kept, faults = output.split()
    return kept, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is not glibc")
def test_freed_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a setting that does nothing, or that overrides the user's."""
    for name in SETTINGS_OF_THE_USER:
        monkeypatch.delenv(name, raising=False)
    environment = dict(os.environ)
    kept, faults = cleared(environment)
    assert kept == "True"
    assert faults < PAGES / 4
    kept, faults = cleared({**environment, "MALLOC_TRIM_THRESHOLD_": "131072"})
    assert kept == "False"
    assert faults > PAGES / 2


def test_a_run_on_a_cpu_keeps_memory(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a trainer without it: a fifth of an iteration of a 135M model is clearing pages."""
    kept: list[bool] = []
    monkeypatch.setattr(components, "keep_freed_memory", lambda: kept.append(True))
    trainer(tiny_gpt2_dir, tmp_path)
    assert len(kept) == 1
