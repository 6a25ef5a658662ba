"""IMDB: queries are short openings of real reviews; a classifier pays their continuations."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from cory.tasks import for_task, load_task
from cory.tasks.imdb import openings
from cory.training.data import held_out_queries


@pytest.fixture(scope="module")
def tokenizer(tiny_gpt2_dir: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_gpt2_dir)


def queries_of(texts: list[str], tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> list[str]:
    return openings(Dataset.from_dict({"text": texts}), tokenizer, "prompt", seed, "data")["prompt"]


def test_real_reviews_become_queries(
    shared_data: Path, tiny_classifier_dir: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Prevents minutes of tokenising whole reviews, markup in queries, and lost reviews.

    And an evaluation on negative reviews alone, which are the first half of the published split.
    """
    args = for_task(
        "imdb",
        dataset_name=str(shared_data / "imdb"),
        reward_model_name_or_path=str(tiny_classifier_dir),
        use_cpu=True,
    )
    started = time.process_time()
    task = load_task(args, tokenizer)
    assert time.process_time() - started < 30
    for dataset in (task.train_dataset, task.eval_dataset):
        assert dataset.column_names == ["prompt", "label"]
        assert len(dataset) > 24_900
        prompts = dataset["prompt"][:2000]
        lengths = {len(tokenizer(prompt)["input_ids"]) for prompt in prompts}
        assert lengths == set(range(2, 9))
        assert not [prompt for prompt in prompts if "<br" in prompt or "\ufffd" in prompt]
    labels = [row["label"] for row in held_out_queries(task.eval_dataset, 512)]
    assert 200 < sum(labels) < 312
    rewards = task.reward_funcs[0](prompts=["This film", "I"], completions=[" is good.", " left."])
    assert len(rewards) == 2
    assert rewards[0] != rewards[1]


def test_queries_are_prefixes_that_depend_on_seed_and_row(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Prevents queries that change between runs, or with the number of reviews read."""
    texts = [f"Review {row} was<br /><br />a very long   one about a film." for row in range(50)]
    queries = queries_of(texts, tokenizer)
    clean = [" ".join(text.replace("<br />", " ").split()) for text in texts]
    assert all(text.startswith(query) for text, query in zip(clean, queries, strict=True))
    assert queries_of(texts, tokenizer) == queries
    assert queries_of(texts[:10], tokenizer) == queries[:10]
    assert queries_of(texts, tokenizer, seed=1) != queries


def test_held_out_queries_are_the_same_for_every_seed(
    tmp_path: Path, tiny_classifier_dir: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Prevents runs with different seeds from being compared on different queries."""
    texts = [f"Number {row} was a long review of some film." for row in range(40)]
    for split in ("train", "test"):
        Dataset.from_dict({"text": texts}).to_parquet(tmp_path / f"{split}.parquet")
    tasks = [
        load_task(
            for_task(
                "imdb",
                dataset_name=str(tmp_path),
                reward_model_name_or_path=str(tiny_classifier_dir),
                seed=seed,
                use_cpu=True,
            ),
            tokenizer,
        )
        for seed in (1, 2)
    ]
    assert tasks[0].eval_dataset["prompt"] == tasks[1].eval_dataset["prompt"]
    assert tasks[0].train_dataset["prompt"] != tasks[1].train_dataset["prompt"]


def test_short_reviews_are_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    """Prevents empty queries, and queries shorter than the length drawn."""
    assert queries_of(["", "x", "   ", "<br />", "A film that I did not like"], tokenizer) != []
    with pytest.raises(ValueError, match="no review of 8 tokens"):
        queries_of(["", "x"], tokenizer)


def test_a_wrong_column_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    """Prevents a KeyError that does not say which columns there are."""
    with pytest.raises(ValueError, match="no column 'text'; its columns are 'review'"):
        openings(Dataset.from_dict({"review": ["x"]}), tokenizer, "prompt", 0, "data")
