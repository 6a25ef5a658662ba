"""Which queries an iteration gets, as a function of the step."""

from __future__ import annotations

from datasets import Dataset

from cory.training.data import held_out_queries, queries_at
from tests.teams import make_args

DATASET = Dataset.from_dict({"prompt": [f"query {row}" for row in range(10)]})


def asked(steps: range, batch_size: int = 4, seed: int = 0, num_generations: int = 1) -> list[str]:
    settings = {"batch_size": batch_size, "seed": seed, "num_generations": num_generations}
    args = make_args(**settings)
    return [row["prompt"] for step in steps for row in queries_at(DATASET, args, step)]


def test_a_pass_visits_every_row_once() -> None:
    """Prevents rows that are never asked, also where an iteration spans two passes."""
    prompts = asked(range(10))
    for start in range(0, 40, 10):
        assert sorted(prompts[start : start + 10]) == sorted(DATASET["prompt"])
    assert prompts[:10] != prompts[10:20]


def test_an_iteration_may_be_larger_than_the_data_set() -> None:
    """Prevents a small data set from giving short batches."""
    prompts = asked(range(2), batch_size=25)
    assert len(prompts) == 50
    assert all(prompts.count(prompt) == 5 for prompt in DATASET["prompt"])


def test_the_order_depends_on_step_and_seed_alone() -> None:
    """Prevents a resumed run from asking other queries than the run that was cut off."""
    late = asked(range(7, 8))
    assert asked(range(8))[-4:] == late
    assert asked(range(7, 8)) == late
    assert asked(range(3), seed=1) != asked(range(3))


def test_generations_take_fewer_queries() -> None:
    """Prevents `num_generations` from multiplying the batch size."""
    assert len(asked(range(1), batch_size=12, num_generations=4)) == 3


def test_held_out_queries_are_the_same_in_every_run() -> None:
    """Prevents seeds from being compared on different queries, and a crash on small data."""
    assert held_out_queries(DATASET, 3) == [{"prompt": f"query {row}"} for row in range(3)]
    assert len(held_out_queries(DATASET, 99)) == 10
