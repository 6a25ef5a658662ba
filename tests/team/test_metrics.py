"""What is measured, by hand, and the file it is written to."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from cory.models.batch import make_batch
from cory.models.scoring import TokenScores
from cory.team.metrics import (
    MetricsFile,
    combined,
    confidence_interval,
    diversity,
    mean_of,
    read_metrics,
    record_metrics,
)
from cory.team.types import Generation, RolloutRecord


def test_diversity_by_hand() -> None:
    """Prevents n-grams across answers, and shares of tokens rather than of n-grams."""
    measured = diversity([[1, 2, 1], [1, 2], [1, 2], [9]])
    # 1-grams: 1, 2 and 9 of 8; 2-grams: (1, 2) and (2, 1) of 4; answers: 3 different of 4.
    assert measured == {"distinct_1": 3 / 8, "distinct_2": 2 / 4, "unique_share": 3 / 4}


def test_diversity_of_one_token_answers() -> None:
    """Prevents a division by zero where there is no 2-gram."""
    assert diversity([[4], [4]]) == {"distinct_1": 0.5, "distinct_2": 0.0, "unique_share": 0.5}


def test_confidence_interval_by_hand() -> None:
    """Prevents the biased standard deviation, and a full width where half is meant."""
    # Variance (9 + 1 + 1 + 9) / 3 = 20 / 3.
    expected = 1.96 * math.sqrt(20 / 3) / 2
    assert confidence_interval(torch.tensor([0.0, 2.0, 4.0, 6.0])) == pytest.approx(expected)
    assert confidence_interval(torch.tensor([5.0, 5.0])) == 0
    assert confidence_interval(torch.tensor([5.0])) == 0


def test_mean_of_takes_any_iterable() -> None:
    """Prevents a generator from being used up before it is counted."""
    assert mean_of(value for value in (1, 2, 6)) == 3
    assert mean_of([True, False]) == 0.5


def test_record_metrics_by_hand() -> None:
    """Prevents padding in a mean, and a KL per token that averages sequences of any length."""
    mask = make_batch([[5], [6]], [[7, 8, 2], [9]]).response_mask
    scores = TokenScores(
        logprobs=torch.tensor([[-1.0, -2.0, -3.0], [-4.0, 0, 0]]),
        values=torch.zeros(2, 3),
        entropy=torch.tensor([[1.0, 2.0, 3.0], [6.0, 0, 0]]),
        ref_logprobs=torch.tensor([[-2.0, -2.0, -4.0], [-3.0, 0, 0]]),
        full_kl=torch.tensor([[0.5, 1.0, 1.5], [7.0, 0, 0]]),
    )
    record = RolloutRecord(
        generation=Generation(
            0, 0, [[5], [6]], [[7, 8, 2], [9]], ["a", "b"], has_ended=[True, False]
        ),
        batch=make_batch([[5], [6]], [[7, 8, 2], [9]]),
        scores=scores,
        task_reward=torch.tensor([1.0, 4.0]),
        team_reward=torch.tensor([2.0, 6.0]),
        scaled_reward=torch.tensor([0.2, 0.6]),
        reward_parts={"length": 2.5},
    )
    assert mask.sum() == 4
    assert record_metrics(record) == {
        "task_reward": 2.5,
        "task_reward_std": 1.5,
        "team_reward": 4.0,
        "declined_answers": 0.0,
        "masked_answers": 0.0,
        "kl": 5.0,
        "kl_per_token": 2.5,
        "kl_sampled": 0.5,
        "entropy": 3.0,
        "completion_length": 2.0,
        "ended_share": 0.5,
        "reward/length": 2.5,
        "distinct_1": 1.0,
        "distinct_2": 1.0,
        "unique_share": 1.0,
    }


def test_records_survive_a_cut_off_line(tmp_path: Path) -> None:
    """Prevents a killed run from making its metrics unreadable."""
    path = tmp_path / "run" / "metrics.jsonl"
    file = MetricsFile(path, first_step=0)
    file.write({"step": 1, "kl": 0.5})
    file.write({"step": 2, "kl": 0.7})
    with path.open("a") as raw:
        raw.write('{"step": 3, "kl"')
    assert read_metrics(path) == [{"step": 1, "kl": 0.5}, {"step": 2, "kl": 0.7}]


def test_a_resumed_run_drops_what_its_checkpoint_does_not_know(tmp_path: Path) -> None:
    """Prevents two records of one step, and the loss of those before the checkpoint."""
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, first_step=0)
    for step in (1, 2, 3):
        file.write({"step": step})
    resumed = MetricsFile(path, first_step=2)
    resumed.write({"step": 3, "again": True})
    assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]
    MetricsFile(path, first_step=0)
    assert read_metrics(path) == []


def test_records_are_valid_json(tmp_path: Path) -> None:
    """Prevents NaN and Infinity, which json writes and other readers refuse."""
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, first_step=0)
    file.write({"step": 1, "kl": math.nan, "loss": math.inf, "reward": 1.5, "name": "a"})
    record = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert record == {"step": 1, "kl": None, "loss": None, "reward": 1.5, "name": "a"}


def test_no_file_has_no_records(tmp_path: Path) -> None:
    """Prevents a report on a run that has not started from crashing."""
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_parts_of_a_mini_batch_are_summed_but_for_the_largest_error() -> None:
    """Prevents a logged error of the first ratio that is the least of its parts."""
    parts = [
        {"policy_loss": torch.tensor(1.0), "ratio_error": torch.tensor(0.5)},
        {"policy_loss": torch.tensor(2.0), "ratio_error": torch.tensor(0.1)},
    ]
    assert combined(parts) == {"policy_loss": torch.tensor(3.0), "ratio_error": torch.tensor(0.5)}
