"""`experiments.faults.kill_and_resume`: a short version of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.faults.differences import differences
from experiments.faults.kill_and_resume import KINDS, kill_and_resume
from experiments.faults.variants import VARIANTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kills"), [("all", len(KINDS)), ("early-stopping", 2), ("compare", 2)]
)
def test_killed_runs_end_as_if_nothing_had_happened(name: str, kills: int, tmp_path: Path) -> None:
    """Prevents whatever a kill at any moment could half-write, lose or do twice."""
    found = kill_and_resume(VARIANTS[name], tmp_path, kills, seed=1)
    assert sum(found["kills"].values()) == kills
    assert found["starts said to be damaged"] == 0
    assert found["differences"] == []
    if name == "compare":
        return
    (tmp_path / "killed/metrics.jsonl").write_text('{"step": 1, "kl": 2.0}\n')
    assert differences(tmp_path / "killed", tmp_path / "undisturbed") == ["metrics.jsonl"]
