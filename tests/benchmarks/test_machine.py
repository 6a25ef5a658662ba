"""`benchmarks.machine`: a page says on what it was measured."""

from __future__ import annotations

from pathlib import Path

from benchmarks.machine import describe_run, num_cores, processor_model

CPUINFO = """processor\t: 0
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
"""


def test_a_processor_has_a_model_beside_its_name(tmp_path: Path) -> None:
    """Prevents results of "AMD EPYC", which is any of five generations, one without bfloat16."""
    info = tmp_path / "cpuinfo"
    info.write_text(CPUINFO)
    assert processor_model(info) == " (cpu family 25, model 17)"
    assert processor_model(tmp_path / "absent") == ""


def test_a_run_names_machine_and_command() -> None:
    """Prevents a table that nobody can measure again."""
    run = describe_run("benchmarks.iteration", ["--only", "cory"])
    assert run["command"] == "python -m benchmarks.iteration --only cory"
    assert run["machine"].endswith(f"{processor_model()}; cores for this process: {num_cores()}")
