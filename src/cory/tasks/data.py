"""Data sets by Hub name, local directory or single file, with errors that name the fix.

The files of a directory are named after their split, as on the Hub: `train.jsonl`,
`train-00000-of-00003.parquet`, `data/train.csv` and `train/part-7.csv` all belong to `train`. A
single file is a `train` split, whatever it is called. A directory written by `save_to_disk` keeps
its own names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cory.assets import is_asset
from cory.io.errors import REFUSED_BY_DISK
from cory.io.files import OutputError
from cory.io.hub import asking_the_hub
from cory.io.terminal import say

if TYPE_CHECKING:
    from datasets import Dataset

    from cory.config import CORYConfig
    from cory.rewards.calling import RewardFunc

BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
METADATA = {"dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json"}
DEFAULT_TEST_SPLIT = "test"
MAX_HELD_OUT = 1000
_SHARD = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")


def load_splits(
    args: CORYConfig, name: str, check: Callable[[Dataset], object] = len
) -> tuple[Dataset, Dataset]:
    """The training and the held-out split of the data set `name`.

    Where there is no `test` split, and `args` asks for no other, `hold_out` makes one. Held-out
    rows come in random order: an evaluation takes the first.

    Args:
        args: name the splits.
        name: of the data set.
        check: raises a ValueError for rows that cannot be used; called while they are in the order
            of the data set, so that it can name them.

    Raises:
        ValueError: the data set or a split is missing, unreadable or empty, or `check` refuses it.
    """
    splits = find_splits(name, args.dataset_config)
    train_dataset = _load_split(splits, args.dataset_train_split, name)
    check(train_dataset)
    if args.dataset_test_split in splits or args.dataset_test_split != DEFAULT_TEST_SPLIT:
        held_out = _load_split(splits, args.dataset_test_split, name)
        check(held_out)
        # Packaged queries were drawn at random: they stay as stored results asked them.
        return train_dataset, held_out if is_asset(name) else in_random_order(held_out)
    say(
        f"cory: warning: data set {name!r} has no split {args.dataset_test_split!r}, but "
        f"{', '.join(map(repr, splits))}: a tenth of {args.dataset_train_split!r} is held out for "
        "evaluation; set dataset_test_split for another"
    )
    return hold_out(train_dataset, name)


def hold_out(dataset: Dataset, name: str) -> tuple[Dataset, Dataset]:
    """Part `dataset` in two: what stays for training, and a tenth of its rows (at most 1,000).

    The rows are drawn with a fixed seed: runs with different seeds are evaluated on the same ones,
    in the order in which they were drawn.

    Raises:
        ValueError: there are fewer than two rows.
    """
    if len(dataset) < 2:
        raise ValueError(
            f"Data set {name!r} has {len(dataset)} row and no held-out split; give it at least two "
            "rows, or a split of its own named by dataset_test_split."
        )
    num_held_out = min(MAX_HELD_OUT, max(1, len(dataset) // 10))
    rows = random_order(len(dataset))
    return dataset.select(sorted(rows[num_held_out:])), dataset.select(rows[:num_held_out])


def in_random_order(dataset: Dataset) -> Dataset:
    """The rows of a held-out data set in random order, the same for all arms and seeds.

    Published splits may be sorted: the first half of those of IMDB are negative reviews.
    """
    return dataset.select(random_order(len(dataset)))


def random_order(size: int) -> list[int]:
    """A permutation of `size` rows, drawn with a fixed seed."""
    import numpy

    return numpy.random.default_rng(0).permutation(size).tolist()


def find_splits(name: str, config: str | None) -> dict[str, Callable[[], Dataset]]:
    """How to load each split of the data set `name`, by the split's name.

    Args:
        name: Hub name, directory or file.
        config: configuration on the Hub; of a directory, the folder of that name if there is one.

    Raises:
        ValueError: there is no such data set, or it holds no data files.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return {"train": partial(_read_files, [path])}
    if path.is_dir():
        folder = path / config if config and (path / config).is_dir() else path
        return _saved_splits(folder) or _file_splits(folder)
    if name.startswith((".", "/", "~")) or path.suffix in BUILDERS:
        raise ValueError(f"dataset_name={name!r}: no such file or directory; check the path.")
    return _hub_splits(name, config)


def task_rewards(args: CORYConfig, reward_funcs: Any) -> list[RewardFunc]:
    """Reward functions from functions or names, as `load_reward_funcs` takes them.

    Raises:
        ValueError: a name leads nowhere, or a model is not a classifier of one or two labels.
    """
    from cory.rewards.loading import load_reward_funcs, reward_device

    return load_reward_funcs(
        reward_funcs, device=reward_device(args), trust_remote_code=args.trust_remote_code
    )


def require_columns(dataset: Dataset, columns: Sequence[str], name: str) -> Dataset:
    """`dataset` itself, once it is known to have `columns`.

    Raises:
        ValueError: a column is missing; the message lists those that exist.
    """
    for column in columns:
        if column not in dataset.column_names:
            raise ValueError(
                f"Data set {name!r} has no column {column!r}; its columns are "
                f"{', '.join(map(repr, dataset.column_names))}. Rename one of them, or (for the "
                "query) name it in prompt_column."
            )
    return dataset


def _load_split(splits: Mapping[str, Callable[[], Dataset]], split: str, name: str) -> Dataset:
    if split not in splits:
        raise ValueError(
            f"Data set {name!r} has no split {split!r}; its splits are "
            f"{', '.join(map(repr, splits))}. Set dataset_train_split and dataset_test_split to "
            "two of them."
        )
    dataset = splits[split]()
    if len(dataset) == 0:
        raise ValueError(f"Split {split!r} of data set {name!r} is empty; give it rows.")
    return dataset


def _hub_splits(name: str, config: str | None) -> dict[str, Callable[[], Dataset]]:
    import datasets

    try:
        with asking_the_hub(name):
            splits = datasets.load_dataset(name, config)
    except (OSError, ValueError) as error:  # not found, no access, no connection; no such config
        raise ValueError(
            f"dataset_name={name!r} (dataset_config={config!r}) is neither a file or directory "
            f"here nor a data set that the Hub gives us: {error}. Check the name, the connection "
            "and, for a gated data set, `hf auth login`; or pass the path of a local copy."
        ) from error
    return _loaders(splits)


def _saved_splits(folder: Path) -> dict[str, Callable[[], Dataset]]:
    """Splits written by `save_to_disk`; none where it did not write `folder`."""
    import datasets

    if (folder / "dataset_dict.json").is_file():
        return _loaders(datasets.DatasetDict.load_from_disk(str(folder)))
    if (folder / "state.json").is_file():
        return _loaders({"train": datasets.Dataset.load_from_disk(str(folder))})
    return {}


def _loaders(splits: Mapping[Any, Any]) -> dict[str, Callable[[], Dataset]]:
    """Loaders of splits that are at hand already."""
    return {str(split): partial(splits.__getitem__, split) for split in splits}


def _file_splits(folder: Path) -> dict[str, Callable[[], Dataset]]:
    files: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.*"), *folder.glob("*/*.*")]):
        if path.suffix in BUILDERS and path.name not in METADATA:
            is_named_by_folder = path.parent != folder and path.parent.name != "data"
            split = path.parent.name if is_named_by_folder else _SHARD.sub("", path.stem)
            files.setdefault(split, []).append(path)
    if not files:
        raise ValueError(
            f"Directory {str(folder)!r} holds no data files; expected files such as train.jsonl "
            f"and test.jsonl ({', '.join(BUILDERS)}), or what `save_to_disk` writes."
        )
    return {split: partial(_read_files, paths) for split, paths in files.items()}


def _read_files(paths: list[Path]) -> Dataset:
    import datasets
    from datasets.exceptions import DatasetGenerationError

    names = [str(path) for path in paths]
    suffixes = {path.suffix for path in paths}
    if len(suffixes) > 1 or not suffixes <= set(BUILDERS):
        raise ValueError(
            f"Cannot read {', '.join(names)} as one split; its files must share one ending of "
            f"{', '.join(BUILDERS)}."
        )
    if all(path.stat().st_size == 0 for path in paths):
        raise ValueError(f"{', '.join(names)} is empty; give it rows.")
    try:
        return datasets.load_dataset(BUILDERS[suffixes.pop()], data_files=names, split="train")
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in REFUSED_BY_DISK:
            raise OutputError(
                f"the cache of data sets could not be written: {error.__cause__}; make room "
                "there, or set HF_DATASETS_CACHE to another directory"
            ) from error
        raise ValueError(
            f"{', '.join(names)} cannot be read: {error.__cause__ or error}. Check that the "
            "contents match the ending of the name."
        ) from error
    except ValueError as error:  # there is no split where there is no row
        raise ValueError(
            f"{', '.join(names)} holds no rows that can be read: {error}. Give it rows, and check "
            "that the contents match the ending of the name."
        ) from error
