"""`experiments.pocket.reference_value`: what a reference is worth is a difference of two shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from cory import CORYTrainer
from cory.tasks import for_task
from experiments.pocket.reference_value import measure


def test_the_parts_make_up_the_whole(tmp_path: Path) -> None:
    """Prevents answers that are paired with another query's, and a second try with a reference."""
    args = for_task(
        "pocket-arithmetic", max_steps=1, batch_size=4, num_mini_batches=1, output_dir=str(tmp_path)
    )
    CORYTrainer(args=args).train()
    right, observed, again, *given = measure(tmp_path, 128, is_trained=False)
    for whole, if_wrong, if_right in ((observed, *given[::2]), (again, *given[1::2])):
        assert whole == pytest.approx((1 - right) * if_wrong + right * if_right)
    assert observed > again + 0.1
    assert measure(tmp_path, 128, is_trained=True) != [right, observed, again, *given]
