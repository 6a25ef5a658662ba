"""What users get wrong: one clear error that names the value and the fix, before time is lost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from cory import CORYConfig, CORYTrainer, PPOTrainer
from cory.config import FIELD_NAMES
from cory.rewards.calling import RewardError
from cory.tasks import for_task
from cory.training.records import load_config
from tests.tiny_runs import queries, settings, share_of_letters, trainer

OTHER_SETTINGS = FIELD_NAMES - {"reward_funcs"}


def start(model: Path, output_dir: Path, rows: Any = None, **options: Any) -> CORYTrainer:
    """A trainer on rows of one's own."""
    overrides = {key: options.pop(key) for key in list(options) if key in OTHER_SETTINGS}
    return CORYTrainer(
        args=settings(model, output_dir, **overrides),
        train_dataset=queries() if rows is None else rows,
        **({"reward_funcs": share_of_letters} | options),
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"question": ["Why?"]}, r"'train_dataset' has no column 'prompt'.*'question'.*prompt_col"),
        ({"prompt": []}, r"train_dataset is empty: it needs at least one row"),
        ({"prompt": ["Why?", ""]}, r"Row 1 of .*'train_dataset' has '' .*Change or drop the row"),
        ({"prompt": ["Why?", None]}, r"Row 1 of .*'train_dataset' has None"),
        ({"prompt": [[{"text": "Why?"}]]}, r"Row 0 of .*'train_dataset' .*chat messages such as"),
    ],
    ids=["column", "no rows", "empty", "missing", "chat"],
)
def test_data_that_cannot_be_asked(
    tiny_gpt2_dir: Path, tmp_path: Path, rows: dict[str, list], message: str
) -> None:
    """Prevents an error of a library, or a prompt without a question."""
    dataset = Dataset.from_dict(rows)
    with pytest.raises(ValueError, match=message):
        start(tiny_gpt2_dir, tmp_path, dataset)
    with pytest.raises(ValueError, match=message.replace("train_dataset", "eval_dataset")):
        start(tiny_gpt2_dir, tmp_path, eval_dataset=dataset)
    assert not any(tmp_path.iterdir()), "nothing was trained, so nothing should be left"


def raising(**inputs: Any) -> list[float]:
    raise KeyError("answer")


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (raising, r"'raising' raised KeyError: 'answer'.*columns \['topic'\]"),
        (lambda **_: [float("inf")] * 8, r"returned inf for row 0; it must return a finite number"),
        (lambda **_: [1.0] * 7, r"returned 7 values for 8 completions"),
        (lambda **_: ["good"] * 8, r"returned 'good' \(str\) for row 0; it must return a finite"),
        (lambda **_: 1.0, r"returned 1.0; it must return a list"),
    ],
    ids=["raises", "inf", "count", "text", "scalar"],
)
def test_a_reward_that_is_none(
    tiny_gpt2_dir: Path, tmp_path: Path, reward: Any, message: str
) -> None:
    """Prevents training on rewards that belong to other answers, or on NaN."""
    with pytest.raises(RewardError, match=re.compile(message, re.DOTALL)):
        trainer(tiny_gpt2_dir, tmp_path, reward).train()


def test_no_reward_and_no_task(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a run in which nothing is paid."""
    for nothing in (None, []):
        with pytest.raises(ValueError, match=r"no reward functions: pass `reward_funcs`"):
            start(tiny_gpt2_dir, tmp_path, reward_funcs=nothing)


@pytest.mark.parametrize("options", [{}, {"num_agents": 1}, {"knowledge_transfer": False}])
def test_a_prompt_that_does_not_fit(
    tiny_gpt2_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents a prompt from being cut, or an index error in the middle of training."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2_dir)
    # GPT-2 here reads 1024 tokens; the observer's prompt shows the query twice.
    fits, fails = (480, 512) if not options else (1018, 1019)
    assert len(tokenizer("a" * fails)["input_ids"]) == fails
    rows = Dataset.from_dict({"prompt": ["short", "a" * fits]})
    start(tiny_gpt2_dir, tmp_path, rows, **options)
    rows = Dataset.from_dict({"prompt": ["short", "a" * fails]})
    message = r"1 of 2 queries do not fit the model's context of 1024 tokens; .* needs 10\d\d"
    with pytest.raises(ValueError, match=message):
        start(tiny_gpt2_dir, tmp_path, rows, **options)
    with pytest.raises(ValueError, match=message):
        start(tiny_gpt2_dir, tmp_path, eval_dataset=rows, **options)


def test_the_longest_prompt_that_fits_can_be_trained(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a check that is off by a few tokens."""
    team = trainer(tiny_gpt2_dir, tmp_path)
    encode = team.components.encoder.encode
    needed = {size: len(encode("a" * size, [[65] * 6])) + 6 for size in range(480, 520)}
    fits = max(size for size, length in needed.items() if length <= 1024)
    rows = Dataset.from_dict({"prompt": ["a" * fits]})
    start(tiny_gpt2_dir, tmp_path, rows, batch_size=1).iterate(0)
    with pytest.raises(ValueError, match=f"needs {needed[fits + 1]}"):
        start(tiny_gpt2_dir, tmp_path, Dataset.from_dict({"prompt": ["a" * (fits + 1)]}))


def test_a_model_without_pad_token_is_handled(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents GPT-2, which has none, from being refused."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2_dir)
    assert tokenizer.pad_token is None
    team = start(tiny_gpt2_dir, tmp_path, processing_class=tokenizer)
    assert team.tokenizer.pad_token == tokenizer.eos_token


def test_no_model(tmp_path: Path) -> None:
    """Prevents an error about a tokenizer where the model is missing."""
    with pytest.raises(ValueError, match=r"no model: pass `model`, or set model_name_or_path"):
        PPOTrainer(
            reward_funcs=share_of_letters,
            args=CORYConfig(output_dir=str(tmp_path)),
            train_dataset=queries(),
        )


def test_a_model_object_without_a_name(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a request for a model when it is the tokenizer that is missing."""
    model = AutoModelForCausalLM.from_pretrained(tiny_gpt2_dir)
    model.config._name_or_path = ""
    with pytest.raises(ValueError, match=r"no tokenizer: .*processing_class"):
        CORYTrainer(
            model,
            share_of_letters,
            args=CORYConfig(output_dir=str(tmp_path)),
            train_dataset=queries(),
        )


def test_no_task_and_no_data(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a bare `CORYTrainer()` from ending in an AttributeError."""
    with pytest.raises(ValueError, match=r"Neither task nor dataset_name is set"):
        CORYTrainer(args=settings(tiny_gpt2_dir, tmp_path))


def test_nothing_held_out(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents early stopping, and curves, that silently have nothing to look at."""
    with pytest.raises(ValueError, match=r"eval_steps=1 .*nothing is held out: pass eval_dataset"):
        start(tiny_gpt2_dir, tmp_path, eval_steps=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("learnin_rate", r"'learnin_rate' is not a setting .* did you mean learning_rate\?"),
        ("kl", r"'kl' is not a setting"),
        ("epochs_of_reason", r"is not a setting .*`cory train --help` lists them"),
    ],
)
def test_an_unknown_setting(tmp_path: Path, name: str, message: str) -> None:
    """Prevents a typing error from being ignored, or from ending in Python's own words."""
    with pytest.raises(ValueError, match=message):
        CORYConfig(**{name: 1})
    with pytest.raises(ValueError, match=message):
        CORYConfig().replace(**{name: 1})
    with pytest.raises(ValueError, match=message):
        for_task("gsm8k", **{name: 1})
    (tmp_path / "config.yaml").write_text(f"{name}: 1\n")
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["", "- a list\n", "max_steps: [\n"])
def test_a_settings_file_that_is_none(tmp_path: Path, text: str) -> None:
    """Prevents a parser's error about a file that nobody named."""
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config.yaml"):
        load_config(tmp_path)


def test_a_directory_that_holds_a_run(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a second run from mixing with the first, even where the first failed early."""
    with pytest.raises(RewardError):
        trainer(tiny_gpt2_dir, tmp_path, raising).train()
    with pytest.raises(ValueError, match=r"output_dir=.* holds a run already: .*resume=True"):
        trainer(tiny_gpt2_dir, tmp_path)
