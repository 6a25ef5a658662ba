"""In what two runs, or two comparisons, differ but for what the clock says."""

from __future__ import annotations

import json
from pathlib import Path

from cory.team.metrics import read_metrics

CLOCK = frozenset({"seconds/rollout", "seconds/update", "tokens_per_second", "total_seconds"})


def runs_of(directory: Path) -> list[Path]:
    """The runs in a directory, by the files that each has."""
    return sorted(path.parent for path in directory.rglob("config.yaml"))


def all_differences(killed: Path, undisturbed: Path) -> list[str]:
    """Files in which the runs of two directories differ."""
    places = [path.relative_to(undisturbed) for path in runs_of(undisturbed)]
    assert places, undisturbed
    found = [name for place in places for name in differences(killed / place, undisturbed / place)]
    if [path.relative_to(killed) for path in runs_of(killed)] != places:
        found.append("other runs")
    return found


def differences(run: Path, undisturbed: Path) -> list[str]:
    """Files in which two runs differ, but for what the clock says."""
    found = []
    names = sorted(
        {
            str(path.relative_to(directory))
            for directory in (run, undisturbed)
            for path in directory.rglob("*")
            if path.is_file() and path.suffix in (".safetensors", ".json", ".jsonl", ".parquet")
        }
        - {"environment.jsonl"}
    )
    for name in names:
        paths = (run / name, undisturbed / name)
        if not all(path.is_file() for path in paths):
            found.append(f"{name} is missing in one")
        elif len({_without_the_clock(path) for path in paths}) > 1:
            found.append(name)
    assert any(name.endswith("state.safetensors") for name in names), names
    return found


def _without_the_clock(path: Path) -> bytes:
    if path.name == "state.json":
        state = json.loads(path.read_text())
        del state["progress"]["records"]["seconds"]
        return json.dumps(state).encode()
    if path.name == "metrics.jsonl":
        lines = [
            {key: value for key, value in record.items() if key not in CLOCK}
            for record in read_metrics(path)
        ]
        return json.dumps(lines).encode()
    return path.read_bytes()
