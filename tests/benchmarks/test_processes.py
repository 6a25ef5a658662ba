"""The bytes behind the table in docs/how-to/clusters.md."""

from __future__ import annotations

from pathlib import Path

from benchmarks.processes import Meter, held
from tests.tiny_runs import trainer


def test_a_team_of_full_copies_holds_what_the_table_says(
    tiny_llama_dir: Path, tmp_path: Path
) -> None:
    """Prevents a table of memory that forgets the reference, or counts gradients of both agents."""
    team = trainer(tiny_llama_dir, tmp_path)
    meter = Meter(team.world)
    team.iterate(0)
    size = sum(weight.numel() for weight in team.policies[0].model.parameters())
    head = sum(weight.numel() for weight in team.policies[0].value_head.parameters())
    assert held(team) == {
        "weights": 4 * (3 * size + 2 * head),
        "gradients": 4 * (size + head),
        "moments": 8 * 2 * (size + head),
    }
    steps = (
        2 * 2
    )  # epochs × agents, each a sum of gradients; one process exchanges them with itself
    assert meter.bytes >= 4 * steps * (size + head)
