"""Which queries an iteration gets, as a function of the step."""

from __future__ import annotations

from datasets import Dataset

from cory.training.data import QueryOrder, held_out_queries
from tests.teams import make_args

DATASET = Dataset.from_dict({"prompt": [f"query {row}" for row in range(10)]})


def order(batch_size: int, seed: int = 0, num_generations: int = 1) -> QueryOrder:
    settings = {"batch_size": batch_size, "seed": seed, "num_generations": num_generations}
    return QueryOrder(DATASET, make_args(**settings))


def prompts(queries: QueryOrder, steps: range) -> list[str]:
    return [row["prompt"] for step in steps for row in queries.at(step)]


def test_a_pass_visits_every_row_once() -> None:
    """Prevents rows that are never asked, also where an iteration spans two passes."""
    asked = prompts(order(4), range(10))
    for start in range(0, 40, 10):
        assert sorted(asked[start : start + 10]) == sorted(DATASET["prompt"])
    assert asked[:10] != asked[10:20]


def test_an_iteration_may_be_larger_than_the_data_set() -> None:
    """Prevents a small data set from giving short batches."""
    asked = prompts(order(25), range(2))
    assert len(asked) == 50
    assert all(asked.count(prompt) == 5 for prompt in DATASET["prompt"])


def test_the_order_depends_on_step_and_seed_alone() -> None:
    """Prevents a resumed run from asking other queries than the run that was cut off."""
    queries = order(4)
    late = queries.at(7)
    assert queries.at(7) == late
    assert order(4).at(7) == late
    assert prompts(order(4, seed=1), range(3)) != prompts(order(4), range(3))


def test_generations_take_fewer_queries() -> None:
    """Prevents `num_generations` from multiplying the batch size."""
    assert len(order(12, num_generations=4).at(0)) == 3


def test_held_out_queries_are_the_same_in_every_run() -> None:
    """Prevents seeds from being compared on different queries, and a crash on small data."""
    assert held_out_queries(DATASET, 3) == [{"prompt": f"query {row}"} for row in range(3)]
    assert len(held_out_queries(DATASET, 99)) == 10
