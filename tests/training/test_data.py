"""Which queries an iteration gets, as a function of the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset
from pyarrow.parquet import read_table
from tokenizers import normalizers

from cory.models.loading import load_tokenizer
from cory.team.prompts import PromptEncoder
from cory.team.roles import Templates
from cory.training.data import Stream, StreamError, held_out_queries, queries_at
from cory.training.query_checks import check_context
from cory.training.trainer import CORYTrainer
from tests.teams import make_args, make_team
from tests.tiny_runs import settings

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


def stream_of(dataset: IterableDataset) -> tuple[Stream, list[tuple[int, int]]]:
    """A stream, and what has been checked of it: the first row and the number of rows."""
    checked: list[tuple[int, int]] = []

    def check(first: int, rows: list[dict[str, Any]]) -> None:
        checked.append((first, len(rows)))

    return Stream(dataset, check), checked


def test_rows_of_a_stream_depend_on_their_position_alone() -> None:
    """Prevents rows that are skipped or come twice, at the end of the stream and on resume."""
    stream, checked = stream_of(DATASET.to_iterable_dataset())
    args = make_args(batch_size=4)
    prompts = [row["prompt"] for step in range(6) for row in queries_at(stream, args, step)]
    assert prompts == [f"query {position % 10}" for position in range(24)]
    assert checked == [(first, 4) for first in range(0, 24, 4)]
    late, _ = stream_of(DATASET.to_iterable_dataset())
    assert queries_at(late, args, 4) == queries_at(stream, args, 4)
    assert queries_at(late, args, 1) == queries_at(stream, args, 1)


def test_a_stream_is_not_read_twice_for_its_first_rows() -> None:
    """Prevents a second request to a server for the rows that were checked at the start."""
    read: list[int] = []

    def rows() -> Any:
        for number in range(8):
            read.append(number)
            yield {"prompt": f"query {number}"}

    stream, _ = stream_of(IterableDataset.from_generator(rows))
    assert stream.rows(0, 4) == stream.rows(0, 4)
    stream.rows(4, 2)
    assert read == [0, 1, 2, 3, 4, 5]


def test_a_shuffled_stream_is_shuffled_anew_in_each_pass() -> None:
    """Prevents every pass from asking in the same order."""
    shuffled = DATASET.to_iterable_dataset().shuffle(seed=1, buffer_size=10)
    stream, _ = stream_of(shuffled)
    first, second = ([row["prompt"] for row in stream.rows(at, 10)] for at in (0, 10))
    assert sorted(first) == sorted(second) == sorted(DATASET["prompt"])
    assert first != second
    assert [row["prompt"] for row in stream.rows(0, 10)] == first


def test_a_stream_that_fails_can_be_read_again() -> None:
    """Prevents short batches after a failure, and an endless search in a stream without rows."""
    failing = [True]

    def rows() -> Any:
        for number in range(4):
            if number == 3 and failing:
                raise OSError("the connection was reset")
            yield {"prompt": f"query {number}"}

    stream, _ = stream_of(IterableDataset.from_generator(rows))
    stream.rows(0, 2)
    with pytest.raises(StreamError, match="from row 2: OSError: the connection was reset"):
        stream.rows(2, 2)
    failing.clear()
    assert [row["prompt"] for row in stream.rows(2, 2)] == ["query 2", "query 3"]
    empty, _ = stream_of(IterableDataset.from_generator(lambda: iter(())))
    with pytest.raises(StreamError, match="it has no rows"):
        empty.rows(0, 2)


GOOD = [{"role": "user", "content": "Two?"}]
CALLED = [{"role": "assistant", "content": None}, {"role": "user", "content": "Two?"}]
BROKEN: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "content": ([GOOD, GOOD, CALLED], {}, r"row 2 of the queries: .*'assistant'.*None.*not text"),
    "question": ([GOOD, [GOOD[0] | {"content": " "}]], {}, "row 1 .*no text"),
    "variables": (
        ["One?", "Two?"],
        {"chat_template_kwargs": {"bos_token": ""}},
        "chat_template_kwargs=.*queries are plain texts",
    ),
    "unread variables": ([GOOD], {"chat_template_kwargs": {"think": False}}, "does not read"),
    "stop strings": (["One?"], {"stop_strings": ["</s>.."]}, "holds the special token '</s>'"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("has_limit", [True, False])
def test_queries_that_cannot_be_asked_are_refused_before_training(
    name: str, has_limit: bool, tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents an error in the iteration that draws such a row, also without a context's limit."""
    asked, chosen, message = BROKEN[name]
    if not has_limit:
        monkeypatch.setattr("cory.training.setup._context_length", lambda *_: None)
    with pytest.raises(ValueError, match=message):
        make_team(tiny_llama_dir, queries=asked, **chosen)


def test_a_query_of_spaces_is_tokenised_before_training(tiny_gpt2_dir: Path) -> None:
    """Prevents an empty prompt in the iteration that draws a row of which no token is left."""
    tokenizer = load_tokenizer(str(tiny_gpt2_dir))
    tokenizer.backend_tokenizer.normalizer = normalizers.Strip()
    encoder = PromptEncoder(tokenizer, Templates(), frozenset())
    with pytest.raises(ValueError, match=r"row 1 of the queries: .*empty prompt"):
        check_context(["One?", " \t"], encoder, None, make_args())


def test_begun_answers_and_parts_are_trained_on(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents such chats from passing the checks and failing in rollout, samples or rewards."""
    begun = [[*GOOD, {"role": "assistant", "content": f"It is {row}"}] for row in range(4)]
    parts = [{"type": "text", "text": "Two"}, {"type": "text", "text": "?"}]
    for name, chats in {"begun": begun, "parts": [[{**GOOD[0], "content": parts}]]}.items():
        args = settings(tiny_llama_dir, tmp_path / name, log_samples_steps=1)
        CORYTrainer(
            reward_funcs=lambda completions, **_: [float(len(one)) for one in completions],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": chats}),
        ).train()
        table = read_table(tmp_path / name / "samples" / "step-000001.parquet")
        assert set(table["query"].to_pylist()) == {"Two?"}
