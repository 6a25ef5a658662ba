"""Data sets as objects: the kinds that are taken give the same rows, others one message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from cory import CORYTrainer
from cory.report.run import describe_run
from cory.training.given import UNNAMED, given_rows
from tests.teams import make_args
from tests.tiny_runs import queries, records, settings, share_of_letters, trainer

ROWS = [{"prompt": f"Query {row}", "topic": row, "tags": ["a", str(row)]} for row in range(12)]
DATASET = Dataset.from_list(ROWS)
PANDAS = pandas.DataFrame(ROWS, index=range(5, 17))


def exclaimed(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**batch, "prompt": [f"{prompt}!" for prompt in batch["prompt"]]}


@pytest.mark.parametrize(
    "given",
    [
        DATASET,
        ROWS,
        tuple(ROWS),
        PANDAS,
        DATASET.with_format("pandas"),
        DATASET.with_format("numpy"),
        DATASET.with_format("torch"),
        DATASET.with_format("arrow"),
        DatasetDict(train=DATASET, validation=DATASET.select([0])),
        DATASET.to_iterable_dataset(),
        DATASET.with_format("torch").to_iterable_dataset(),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_kind_gives_the_same_rows(given: Any) -> None:
    """Prevents tables, arrays or tensors where a reward function expects Python values."""
    taken, held_out = given_rows(given, None, make_args())
    assert taken is not None
    assert list(taken) == ROWS
    assert held_out == {}


def test_a_transform_stays() -> None:
    """Prevents queries that lose what the user's transform makes of them."""
    taken, _ = given_rows(DATASET.with_transform(exclaimed), None, make_args())
    assert isinstance(taken, Dataset)
    assert taken[0]["prompt"] == "Query 0!"


def test_rows_keep_every_column() -> None:
    """Prevents a column that is lost because the first row has no value there."""
    taken, _ = given_rows([{"prompt": "a"}, {"prompt": "b", "hint": 7}], None, make_args())
    assert taken is not None
    assert list(taken) == [{"prompt": "a", "hint": None}, {"prompt": "b", "hint": 7}]


def test_the_splits_of_a_dataset_dict_are_those_of_the_settings() -> None:
    """Prevents training on the held-out split, and a test split that is forgotten."""
    few = DATASET.select([1, 2])
    splits = DatasetDict(train=DATASET, test=few, dev=DATASET.select([3]))
    for args, size in [(make_args(), 2), (make_args(dataset_test_split="dev"), 1)]:
        train, held_out = given_rows(splits, None, args)
        assert isinstance(train, Dataset)
        assert (len(train), len(held_out[UNNAMED])) == (12, size)
    _, held_out = given_rows(splits, ROWS[:5], make_args())
    assert len(held_out[UNNAMED]) == 5
    _, held_out = given_rows(None, splits, make_args())
    assert sorted(held_out[UNNAMED]["prompt"]) == ["Query 1", "Query 2"]


@pytest.mark.parametrize(
    "given", [DATASET, ROWS, PANDAS, DATASET.with_format("pandas")], ids=lambda g: type(g).__name__
)
def test_held_out_rows_are_in_random_order(given: Any) -> None:
    """Prevents an evaluation on the first rows of a sorted data set."""
    _, held_out = given_rows(None, given, make_args())
    topics = list(held_out[UNNAMED]["topic"])
    assert sorted(topics) == list(range(12))
    assert topics != list(range(12))
    _, again = given_rows(None, {"a": given}, make_args(seed=1, num_agents=1))
    assert list(again["a"]["topic"]) == topics


def test_several_held_out_sets_are_measured_by_name(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a set that is not measured, and watched or shown numbers of another than the first.

    Each set has the numbers that it has alone; the first, also without its name, is the run's own.
    """
    sets: dict[str, Any] = {"plain": queries(4), "shouted": [{"prompt": "HELLO!", "topic": "x"}]}
    options: dict[str, Any] = {"max_steps": 2, "eval_steps": 1}
    team = trainer(
        tiny_gpt2_dir, tmp_path / "both", eval_dataset=sets, metric_for_best_model="shouted/kl",
        **options,
    )  # fmt: skip
    metrics = team.train()
    logged = [
        [record for record in records(tmp_path / "both") if f"eval/{key}" in record]
        for key in ("agent_0/kl", "plain/agent_1/kl", "shouted/agent_1/kl", "shouted/kl")
    ]
    assert [len(found) for found in logged] == [3, 3, 3, 3]
    for name, rows in sets.items():
        alone = trainer(tiny_gpt2_dir, tmp_path / name, eval_dataset=rows, **options).train()
        named = {key: metrics[f"{name}/{key}"] for key in alone}
        assert named == alone
    assert metrics["agent_1/kl"] == metrics["plain/agent_1/kl"] != metrics["shouted/agent_1/kl"]
    assert team.events.state.best_metric == max(record["eval/shouted/kl"] for record in logged[0])
    page = str(describe_run(tmp_path / "both"))
    assert all(f"iteration 2{end}" in page for end in ("'", ", set plain'", ", set shouted'"))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("train_dataset", "queries.jsonl", "of type str: set dataset_name"),
        ("train_dataset", {"prompt": ["a"]}, "of type dict: pass a Dataset"),
        ("train_dataset", (row for row in ROWS), "of type generator: pass a Dataset"),
        ("train_dataset", 7, "of type int: pass a Dataset"),
        ("train_dataset", ["a", "b"], "Row 0 of train_dataset is of type str: a row is an object"),
        ("train_dataset", [ROWS[0], None], "Row 1 of train_dataset is of type NoneType"),
        ("train_dataset", [{1: "a"}], "has the column 1: name columns by texts"),
        ("train_dataset", [{"prompt": "a"}, {"prompt": 1}], "rows of train_dataset have no common"),
        ("train_dataset", [{"prompt": "a", "x": object()}], "rows of train_dataset have no common"),
        ("train_dataset", DatasetDict(dev=DATASET), "has no split 'train'; its splits are 'dev'"),
        ("eval_dataset", DatasetDict(dev=DATASET), "has no split 'test'; its splits are 'dev'"),
        ("eval_dataset", {}, "is an empty dict: put data sets in by name"),
        ("eval_dataset", {"a": DATASET, "agent_0": DATASET}, "a data set of the name 'agent_0'"),
        ("eval_dataset", {"reward": DATASET}, "of the name 'reward': use letters"),
        ("eval_dataset", {"a/b": DATASET}, "of the name 'a/b': use letters"),
        ("eval_dataset", {"": DATASET}, "of the name '': use letters"),
        ("eval_dataset", {3: DATASET}, "of the name 3: use letters"),
        ("eval_dataset", {"a": DATASET, "b": None}, r"eval_dataset\['b'\] is None: pass a Dataset"),
        ("eval_dataset", {"a": []}, r"eval_dataset\['a'\] is empty"),
        ("eval_dataset", {"a": DATASET.to_iterable_dataset()}, r"\['a'\] is a stream"),
        ("eval_dataset", {"prompt": ["One?"]}, r"Row 0 of eval_dataset\['prompt'\] is of type str"),
        (
            "eval_dataset",
            {"a": [{"prompt": 7}]},
            r"Row 0 of data set \"eval_dataset\['a'\]\" has 7",
        ),
        ("eval_dataset", DATASET.to_iterable_dataset(), "is a stream, of which no fair sample"),
    ],
)
def test_other_kinds_get_one_message(name: str, given: Any, message: str) -> None:
    """Prevents an AttributeError of a library, or a data set that is read otherwise than meant."""
    both = {"train_dataset": None, "eval_dataset": None, name: given}
    with pytest.raises(ValueError, match=message):
        given_rows(**both, args=make_args())


def test_an_empty_list_is_refused(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents held-out rows that are silently the task's, and a training without a query."""
    with pytest.raises(ValueError, match="eval_dataset is empty"):
        trainer(tiny_gpt2_dir, tmp_path, eval_dataset=[])
    with pytest.raises(ValueError, match="train_dataset is empty"):
        streamed(tiny_gpt2_dir, tmp_path, [])


def streamed(model: Path, output_dir: Path, rows: Any, **overrides: Any) -> CORYTrainer:
    args = settings(model, output_dir, **overrides)
    return CORYTrainer(reward_funcs=share_of_letters, args=args, train_dataset=rows)


def test_a_stream_goes_on_where_the_run_was_left(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a resumed run from beginning the stream again, or asking other queries."""
    stream = Dataset.from_list(ROWS * 2).to_iterable_dataset().shuffle(seed=3, buffer_size=9)
    streamed(tiny_gpt2_dir, tmp_path / "whole", stream, max_steps=4).train()
    streamed(tiny_gpt2_dir, tmp_path / "parts", stream, max_steps=2).train()
    streamed(tiny_gpt2_dir, tmp_path / "parts", stream, max_steps=4, resume=True).train()
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_rows_of_a_stream_have_the_columns_of_those_before(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents KeyError: 'hint' at a row that lacks it, and a column that is dropped unseen."""
    rows = [{"prompt": "a"}, {"prompt": "b", "hint": 7}, {"prompt": "c"}, {"prompt": "d"}]
    seen: list[Any] = []

    def reward(prompts: list[str], completions: list[str], hint: list[Any], **_: Any) -> list[int]:
        seen.extend(hint)
        return [len(text) for text in completions]

    stream = IterableDataset.from_generator(lambda: iter(rows))
    args = settings(tiny_gpt2_dir, tmp_path, batch_size=2, num_agents=1)
    CORYTrainer(reward_funcs=reward, args=args, train_dataset=stream).train()
    assert seen == [None, 7, None, None]


def test_a_set_that_does_not_fit_is_named(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a message about queries of which nobody knows where they stand."""
    long = [{"prompt": "x " * 999, "topic": "x"}]
    with pytest.raises(ValueError, match=r"^eval_dataset\['long'\]: 1 of 1 queries do not fit"):
        trainer(tiny_gpt2_dir, tmp_path, eval_dataset={"a": queries(2), "long": long})
    with pytest.raises(ValueError, match=r"^eval_dataset\['b'\]: Reward function .* 'topic'"):
        trainer(
            tiny_gpt2_dir,
            tmp_path,
            lambda prompts, completions, topic, **_: [1.0] * len(topic),
            eval_dataset={"a": queries(2), "b": [{"prompt": "x"}]},
        )


@pytest.mark.parametrize(
    ("make_row", "message"),
    [
        (lambda row: {"prompt": None}, r"row 16: ValueError: Row 16 of data set 'train_dataset'"),
        (lambda row: {"prompt": row["prompt"] * 999}, "1 of 8 queries do not fit.* row 16, 'Query"),
        (lambda row: {"prompt": [{"role": "user", "content": None}]}, "row 16 of the queries: "),
        (lambda row: {"prompt": row["prompt"], "ratio": 1 / 0}, "row 16: ZeroDivisionError"),
    ],
)
def test_a_row_that_fails_late_costs_no_work(
    make_row: Callable[[dict[str, Any]], dict[str, Any]],
    message: str,
    tiny_gpt2_dir: Path,
    tmp_path: Path,
) -> None:
    """Prevents a bad row of a stream from taking the iterations before it."""
    stream = Dataset.from_list(ROWS * 2).to_iterable_dataset()
    late = stream.map(lambda row, index: make_row(row) if index == 16 else row, with_indices=True)
    team = streamed(tiny_gpt2_dir, tmp_path, late, max_steps=9)
    with pytest.raises(RuntimeError, match=message):
        team.train()
    assert (tmp_path / "checkpoints" / "step-2").is_dir()
