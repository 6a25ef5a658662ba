"""What a run is built from: what the user brings, what the settings name, what the task has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from cory.config import CORYConfig
from cory.tasks import for_task
from cory.training.setup import UserObjects, build_components
from tests.tiny_runs import queries, settings, share_of_letters


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"prompt": f"Question {number}", "topic": number} for number in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def reward_name(tmp_path: Path) -> str:
    path = tmp_path / "rewards.py"
    path.write_text(
        "def length(completions, **columns):\n    return [len(c) for c in completions]\n"
    )
    return f"{path}:length"


@pytest.fixture
def args(tiny_gpt2_dir: Path, tmp_path: Path) -> CORYConfig:
    return settings(tiny_gpt2_dir, tmp_path)


def test_data_by_name_and_rewards_by_name(
    args: CORYConfig, data_file: Path, reward_name: str
) -> None:
    """Prevents the command line from needing Python."""
    args = args.replace(dataset_name=str(data_file), reward_funcs=[reward_name])
    bench = build_components(args, UserObjects())
    assert bench.eval_dataset is not None
    assert len(bench.train_dataset) + len(bench.eval_dataset) == 20
    assert bench.rewards.funcs[0](completions=["abc"]) == [3]


def test_data_by_name_and_rewards_as_objects(args: CORYConfig, data_file: Path) -> None:
    """Prevents a function that was passed from being asked for again by name."""
    args = args.replace(dataset_name=str(data_file))
    bench = build_components(args, UserObjects(reward_funcs=share_of_letters))
    assert bench.rewards.funcs == [share_of_letters]
    assert bench.eval_dataset is not None
    assert len(bench.train_dataset) + len(bench.eval_dataset) == 20


def test_data_as_objects_and_rewards_by_name(args: CORYConfig, reward_name: str) -> None:
    """Prevents a data set that was passed from being asked for again by name."""
    args = args.replace(reward_funcs=[reward_name])
    bench = build_components(args, UserObjects(train_dataset=queries(3)))
    assert bench.rewards.funcs[0](completions=["abc"]) == [3]
    assert len(bench.train_dataset) == 3
    assert bench.eval_dataset is None


def test_what_is_held_out_can_be_brought_alone(
    args: CORYConfig, data_file: Path, reward_name: str
) -> None:
    """Prevents one's own held-out queries from being replaced by the task's."""
    args = args.replace(dataset_name=str(data_file), reward_funcs=[reward_name])
    bench = build_components(args, UserObjects(eval_dataset=queries(2)))
    assert bench.eval_dataset is not None
    assert sorted(bench.eval_dataset["prompt"]) == sorted(queries(2)["prompt"])


def test_a_task_with_other_rewards(tiny_gpt2_dir: Path, tmp_path: Path, shared_data: Path) -> None:
    """Prevents a task's data from being usable with its own reward only."""
    args = for_task(
        "gsm8k",
        dataset_name=str(shared_data / "gsm8k"),
        model_name_or_path=str(tiny_gpt2_dir),
        output_dir=str(tmp_path),
        use_peft=False,
        load_in_4bit=False,
        max_completion_length=4,
        use_cpu=True,
    )
    rows = queries(2).add_column("answer", ["#### 1", "#### 2"])
    own_reward = build_components(
        args, UserObjects(reward_funcs=share_of_letters, train_dataset=rows)
    )
    assert own_reward.rewards.funcs == [share_of_letters]
    own_rows = build_components(args, UserObjects(train_dataset=rows))
    assert len(own_rows.train_dataset) == 2
    assert own_rows.rewards.funcs[0].__name__ == "gsm8k_reward"


def test_the_tokenizer_that_is_brought_is_used(args: CORYConfig, tiny_gpt2_dir: Path) -> None:
    """Prevents tokens that were added by the user from being unknown."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2_dir)
    bench = build_components(
        args,
        UserObjects(
            processing_class=tokenizer, reward_funcs=share_of_letters, train_dataset=queries()
        ),
    )
    assert bench.tokenizer is tokenizer
    assert bench.encoder.tokenizer is tokenizer
    assert bench.rollout.encoder.tokenizer is tokenizer
    assert bench.evaluator.encoder.tokenizer is tokenizer
