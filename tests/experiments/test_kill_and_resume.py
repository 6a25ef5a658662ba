"""`experiments.faults.kill_and_resume`: a short version of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.faults.kill_and_resume import KINDS, differences, kill_and_resume


@pytest.mark.slow
def test_killed_runs_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Prevents whatever a kill at any moment could half-write, lose or do twice."""
    found = kill_and_resume(tmp_path, kills=len(KINDS), steps=90, seed=1)
    assert found["kills"] == dict.fromkeys(KINDS, 1)
    assert found["starts said to be damaged"] == 0
    assert found["differences"] == []
    (tmp_path / "killed/metrics.jsonl").write_text('{"step": 1, "kl": 2.0}\n')
    assert differences(tmp_path / "killed", tmp_path / "undisturbed") == ["metrics.jsonl"]
