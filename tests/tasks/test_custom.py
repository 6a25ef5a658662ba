"""The user's own data set and reward functions, and what goes wrong with them."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetGenerationError

from cory.config import CORYConfig
from cory.io.files import OutputError
from cory.tasks import TASKS, for_task, load_task, task_defaults
from cory.tasks.data import find_splits, load_splits
from cory.training.data import held_out_queries

ROWS = [{"prompt": f"Say {number}", "number": number} for number in range(30)]


@pytest.fixture
def reward_file(tmp_path: Path) -> str:
    path = tmp_path / "my_rewards.py"
    path.write_text(
        "def shortest(completions, **kwargs):\n    return [-len(c) for c in completions]\n"
    )
    return f"{path}:shortest"


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in {".jsonl", ".json"}:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        Dataset.from_list(rows).to_csv(path)
    else:
        Dataset.from_list(rows).to_parquet(path)
    return path


def config(name: Path | str, *reward_funcs: str, **fields: Any) -> CORYConfig:
    return CORYConfig(
        dataset_name=str(name), reward_funcs=list(reward_funcs) or None, use_cpu=True, **fields
    )


def test_a_full_cache_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents "check that the contents match the ending" where the disk is full."""

    def full(*words: Any, **options: Any) -> Any:
        raise DatasetGenerationError from OSError(errno.ENOSPC, "No space left on device")

    path = write_rows(tmp_path / "rows.jsonl", ROWS)
    monkeypatch.setattr("datasets.load_dataset", full)
    with pytest.raises(OutputError, match=r"cache of data sets .*No space.*make room"):
        load_splits(config(path), str(path))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_a_single_file_trains_and_a_part_is_held_out(
    tmp_path: Path, reward_file: str, suffix: str
) -> None:
    """Prevents evaluation on training rows, or a refusal, where there is no test split."""
    path = write_rows(tmp_path / f"questions{suffix}", ROWS)
    tasks = [load_task(config(path, reward_file, seed=seed), None) for seed in (0, 1)]
    train, held_out = tasks[0].train_dataset, tasks[0].eval_dataset
    assert (len(train), len(held_out)) == (27, 3)
    assert sorted([*train["number"], *held_out["number"]]) == list(range(30))
    assert held_out["number"] == tasks[1].eval_dataset["number"]
    assert tasks[0].reward_funcs[0](completions=["ab"]) == [-2]


@pytest.mark.parametrize("names", [("train", "test"), ("questions",)])
def test_held_out_queries_are_a_fair_sample(
    tmp_path: Path, reward_file: str, names: tuple[str, ...]
) -> None:
    """Prevents an evaluation on one kind of query where a data set is sorted, as IMDB is."""
    rows = [{"prompt": f"Say {row}", "label": row >= 400} for row in range(800)]
    for name in names:
        write_rows(tmp_path / "data" / f"{name}.jsonl", rows)
    tasks = [
        load_task(
            config(
                tmp_path / "data",
                reward_file,
                seed=seed,
                num_agents=num_agents,
                dataset_train_split=names[0],
            ),
            None,
        )
        for seed, num_agents in [(0, 2), (1, 2), (0, 1)]
    ]
    asked = [held_out_queries(task.eval_dataset, 40) for task in tasks]
    assert 10 <= sum(row["label"] for row in asked[0]) <= 30
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_wrong_query_is_named_by_its_row(tmp_path: Path, reward_file: str, split: str) -> None:
    """Prevents the number of a row in the order of evaluation, which nobody finds in the file."""
    rows = [{"prompt": "" if row == 17 else f"Say {row}"} for row in range(30)]
    for name in ("train", "test"):
        write_rows(tmp_path / f"{name}.jsonl", rows if name == split else ROWS)
    with pytest.raises(ValueError, match=r"Row 17 of .* has '' in column 'prompt'"):
        load_task(config(tmp_path, reward_file), None)


def test_chat_messages_are_queries(tmp_path: Path, reward_file: str) -> None:
    """Prevents chat data sets from being refused, or flattened on the way."""
    chat = [{"role": "user", "content": "Hello"}]
    path = write_rows(tmp_path / "chat.jsonl", [{"question": chat}] * 2)
    task = load_task(config(path, reward_file, prompt_column="question"), None)
    assert task.train_dataset[0]["question"] == chat


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "test.jsonl"),
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("data/train.csv", "data/test.csv"),
        ("train/part-0.jsonl", "test/part-0.jsonl"),
        ("small/train.jsonl", "small/test.jsonl"),
    ],
)
def test_directories_name_their_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    """Prevents a local copy of a Hub data set from being read as one split."""
    for name, number in zip(names, (20, 10), strict=True):
        write_rows(tmp_path / name, ROWS[:number])
    args = config(tmp_path, dataset_config="small")
    assert [len(split) for split in load_splits(args, str(tmp_path))] == [20, 10]


def test_shards_are_joined(tmp_path: Path) -> None:
    """Prevents training on the first of several files."""
    for shard in range(3):
        write_rows(tmp_path / f"train-0000{shard}-of-00003.jsonl", ROWS[:5])
    assert len(find_splits(str(tmp_path), None)["train"]()) == 15


def test_saved_to_disk(tmp_path: Path) -> None:
    """Prevents the Arrow directories of `save_to_disk` from being read as loose files."""
    DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS[:4])).save_to_disk(
        tmp_path / "splits"
    )
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    sizes = [
        [len(split) for split in load_splits(config(tmp_path / name), str(tmp_path / name))]
        for name in ("splits", "one")
    ]
    assert sizes == [[30, 4], [27, 3]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_column": "question"}, "no column 'question'; its columns are 'prompt', 'number'"),
        ({"dataset_train_split": "training"}, "no split 'training'; its splits are 'train'"),
        ({"dataset_test_split": "validation"}, "no split 'validation'; its splits are 'train'"),
        ({"prompt_column": "number"}, "Row 0 .* has 1 in column 'number'; a query is a text"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(
    tmp_path: Path, reward_file: str, fields: dict[str, Any], message: str
) -> None:
    """Prevents a KeyError in the middle of a run."""
    path = write_rows(tmp_path / "questions.jsonl", ROWS[1:])
    with pytest.raises(ValueError, match=message):
        load_task(config(path, reward_file, **fields), None)


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", ""), ("a.csv", "prompt\n"), ("a.jsonl", "\n")]
)
def test_an_empty_data_set_is_refused(
    tmp_path: Path, reward_file: str, name: str, text: str
) -> None:
    """Prevents a division by zero, or a loop that never yields a batch."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=r"(?i)give it rows"):
        load_task(config(path, reward_file), None)


def test_a_damaged_file_is_not_called_empty(tmp_path: Path, reward_file: str) -> None:
    """Prevents "give it rows" for a table that has some, and cannot be read."""
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1xxxxPAR1")
    with pytest.raises(ValueError, match="holds no rows that can be read: Parquet file size is 12"):
        load_task(config(path, reward_file), None)


def test_an_empty_query_is_refused(tmp_path: Path, reward_file: str) -> None:
    """Prevents a prompt without tokens."""
    path = write_rows(tmp_path / "questions.jsonl", [{"prompt": "Hello"}, {"prompt": ""}])
    with pytest.raises(ValueError, match=r"Row 1 of .* has '' in column 'prompt'"):
        load_task(config(path, reward_file), None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.jsonl", None, r"absent.jsonl': no such file"),
        ("notes.txt", "x", r"notes.txt as one split; .*\.parquet, \.jsonl"),
        ("broken.jsonl", '{"prompt": "x"\nnot json {', r"broken\.jsonl cannot be read"),
        ("folder/notes.txt", "x", r"holds no data files"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, reward_file: str, name: str, text: str | None, message: str
) -> None:
    """Prevents errors of the loading library from reaching the user bare."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if text is not None:
        path.write_text(text)
    source = path.parent if path.parent.name == "folder" else path
    with pytest.raises(ValueError, match=message):
        load_task(config(source, reward_file), None)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path, reward_file: str) -> None:
    """Prevents a UnicodeDecodeError that names neither file nor column."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "a\xff"}\n' * 4)
    with pytest.raises(ValueError, match=r"rows\.jsonl' has text in column 'prompt' .*not UTF-8"):
        load_task(config(path, reward_file), None)


def test_a_data_set_that_is_nowhere(reward_file: str) -> None:
    """Prevents a typing error in a Hub name from ending in an error of the network."""
    with pytest.raises(ValueError, match=r"dataset_name='nobody/nothing' .* neither"):
        load_task(config("nobody/nothing", reward_file), None)


def test_one_row_cannot_be_parted(tmp_path: Path, reward_file: str) -> None:
    """Prevents an empty training or held-out split."""
    path = write_rows(tmp_path / "one.jsonl", ROWS[:1])
    with pytest.raises(ValueError, match="has 1 row and no held-out split"):
        load_task(config(path, reward_file), None)


def test_custom_needs_data_and_rewards(tmp_path: Path) -> None:
    """Prevents a run that starts with nothing to learn."""
    with pytest.raises(ValueError, match="Neither task nor dataset_name"):
        load_task(CORYConfig(), None)
    with pytest.raises(ValueError, match="comes without reward_funcs"):
        load_task(config(write_rows(tmp_path / "a.jsonl", ROWS)), None)


def test_an_unknown_task_lists_those_there_are() -> None:
    """Prevents a typing error that ends in an ImportError."""
    with pytest.raises(
        ValueError, match=r"no task 'imbd': did you mean imdb\?; there is pocket-reviews, .*gsm8k"
    ):
        task_defaults("imbd")
    assert set(TASKS) == {"pocket-reviews", "pocket-arithmetic", "imdb", "gsm8k"}


@pytest.mark.parametrize("name", ["imdb", "gsm8k"])
def test_defaults_make_a_config(name: str) -> None:
    """Prevents defaults that no config accepts, and a dict that one run can change for another."""
    task_defaults(name)["kl_coef"] = 99.0
    args = for_task(name, seed=3)
    assert args.kl_coef == {"imdb": 0.3, "gsm8k": 0.01}[name]
    assert args.kl_estimator == "full"
