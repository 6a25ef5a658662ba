"""`benchmarks.gpu_tests`: tests with a mark are found, run, and told apart by how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu_tests import ROOT, files_with, run_gpu_tests, run_tests
from benchmarks.running import Budget

PLAIN = "def test_plain() -> None:\n    pass\n"


def write(path: Path, body: str, mark: str = "slow") -> Path:
    """A test file with one marked test, and one that is not."""
    path.write_text(f"import pytest\n\n@pytest.mark.{mark}\ndef test_x():\n    {body}\n\n{PLAIN}")
    return path


def test_files_with_gpu_tests_are_found() -> None:
    """Prevents tests of a GPU that no run on one ever reaches."""
    found = [path.relative_to(ROOT).as_posix() for path in files_with("gpu", ROOT / "tests")]
    assert {"tests/benchmarks/test_gpu.py", "tests/generation/test_cuda_graph.py"} <= set(found)
    assert "tests/benchmarks/test_suite.py" not in found


def test_only_marked_tests_run_and_their_end_is_told(tmp_path: Path) -> None:
    """Prevents a failure that reads as a success, and ten minutes of tests that need no GPU."""
    passing = run_tests([write(tmp_path / "test_good.py", "pass")], "slow", 100)
    assert not passing.failed
    assert "1 passed, 1 deselected" in passing.summary
    failing = run_tests([write(tmp_path / "test_bad.py", "assert 1 == 2")], "slow", 100)
    assert failing.failed
    assert "1 failed" in failing.summary
    assert "assert 1 == 2" in failing.output
    nothing = tmp_path / "test_none.py"
    nothing.write_text(PLAIN)
    assert run_tests([nothing], "slow", 100).failed


def test_tests_that_hang_are_ended(tmp_path: Path) -> None:
    """Prevents a deadlock on the device from using up what was to be measured."""
    hanging = write(tmp_path / "test_hang.py", "import time; time.sleep(60)")
    ended = run_tests([hanging], "slow", 5)
    assert ended.failed
    assert ended.summary == "ended after 5 s"


def test_where_tests_cannot_run_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a page that leaves it open whether the device was tested."""
    assert run_gpu_tests("cpu", Budget()).summary == "not run: there is no GPU here"
    spent = run_gpu_tests("cuda", Budget(0))
    assert spent.summary.startswith("skipped: 0 s of 0 s were left")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_gpu_tests("cuda", Budget()).summary == "not run: pytest is not installed"
