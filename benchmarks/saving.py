"""Results on disk: JSON with everything, Markdown to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.running import Results
from benchmarks.table import trainer_name
from cory.io.files import replace_text


def page(title: str, run: Mapping[str, str], results: Results, body: str) -> str:
    """Markdown: what ran where, and the tables."""
    libraries = {
        trainer_name(case): ", ".join(f"{name} {number}" for name, number in case.versions.items())
        for case in results.measured.values()
    }
    facts = [f"- {name}: {value}" for name, value in {**run, **libraries}.items()]
    return "\n".join([f"# {title}", "", *facts, "", body, ""])


def save(output: Path, text: str, run: Mapping[str, str], results: Results) -> None:
    """Write `output`.md and `output`.json; one that is killed leaves those written before."""
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_text(output.with_suffix(".md"), text)
    record = {
        "run": dict(run),
        "measured": {name: asdict(case) for name, case in results.measured.items()},
        "not_measured": results.reasons,
    }
    replace_text(output.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
