"""Every recipe parses, and trains with a tiny model and a little data in place of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cory.cli import main
from cory.cli.options import read_settings
from cory.cli.settings import training_settings
from cory.tasks import task_defaults
from cory.team.metrics import read_metrics

RECIPES = Path(__file__).resolve().parents[1] / "src" / "cory" / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
ARCHITECTURES = {"imdb-gpt2-large": "gpt2", "gsm8k-llama2-7b": "llama", "gsm8k-qwen": "llama"}
SIZES = (
    "--max_steps 2 --batch_size 8 --max_completion_length 6 --num_eval_queries 2 "
    "--per_device_train_batch_size 8"
).split()


def recipe(name: str) -> Path:
    return RECIPES / f"{name}.yaml"


@pytest.fixture(scope="module")
def local_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows with the columns of both data sets."""
    directory = tmp_path_factory.mktemp("data")
    row = {
        "text": "This film is a quiet wonder, and I loved every minute of it.",
        "question": "Anna has 12 apples and buys 30 more. How many apples does she have?",
        "answer": "12 + 30 = 42\n#### 42",
    }
    for split in ("train", "test"):
        (directory / f"{split}.jsonl").write_text((json.dumps(row) + "\n") * 16)
    return directory


def test_there_is_a_tiny_model_for_every_recipe() -> None:
    """Prevents a recipe that no test has ever started."""
    assert set(ARCHITECTURES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains(
    name: str,
    local_data: Path,
    tiny_gpt2_dir: Path,
    tiny_llama_dir: Path,
    tiny_classifier_dir: Path,
    tmp_path: Path,
) -> None:
    """Prevents recipes that fail after an hour of downloads; only names and sizes are changed."""
    models = {"gpt2": tiny_gpt2_dir, "llama": tiny_llama_dir}
    main(
        [
            *("train", "--config", str(recipe(name)), *SIZES),
            *("--model_name_or_path", str(models[ARCHITECTURES[name]])),
            *("--reward_model_name_or_path", str(tiny_classifier_dir)),
            *("--dataset_name", str(local_data)),
            *("--output_dir", str(tmp_path / "run")),
        ]
    )
    *_, training, held_out = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert training["step"] == held_out["step"] == 2
    for agent in ("agent_0", "agent_1"):
        assert training[f"{agent}/optimizer_steps"] >= 2
        assert held_out[f"eval/{agent}/task_reward_ci95"] >= 0


@pytest.mark.parametrize("name", ["imdb-gpt2-large", "gsm8k-llama2-7b"])
def test_the_recipes_of_the_paper_agree_with_the_tasks(name: str) -> None:
    """Prevents `--task imdb` and its recipe from drifting apart: both claim to be the paper."""
    settings = read_settings(recipe(name))
    defaults = task_defaults(settings["task"])
    # How much fits into memory at once changes no result.
    shared = settings.keys() & defaults.keys() - {"per_device_train_batch_size"}
    assert {key: settings[key] for key in shared} == {key: defaults[key] for key in shared}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_ends_with_both_agents_having_had_both_roles_equally(name: str) -> None:
    """Prevents results that favour whoever was pioneer last, and checkpoints that are never due."""
    args = training_settings(read_settings(recipe(name)))
    assert args.role_exchange_period is not None
    assert args.max_steps % (2 * args.role_exchange_period) == 0
    assert args.save_steps is not None
    assert args.max_steps % args.save_steps == 0
