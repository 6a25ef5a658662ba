"""experiments/gsm8k: its script makes a Llama that its comparison trains adapters on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from cory.cli.comparison import read_comparison
from cory.training.trainer import CORYTrainer
from experiments.gsm8k import pretrain

ARMS = Path(__file__).resolve().parents[2] / "experiments" / "gsm8k" / "arms.yaml"
OPTIONS = dict.fromkeys(
    ("preset", "arms", "baseline", "seeds", "kl_coefs", "learning_rates"), None
) | {"config": str(ARMS)}
TINY = {
    "max_steps": 1,
    "eval_steps": 1,
    "batch_size": 4,
    "max_completion_length": 8,
    "num_eval_queries": 4,
    "use_cpu": True,
}


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two problems in the published form."""
    directory = tmp_path_factory.mktemp("gsm8k")
    rows = [
        {
            "question": f"Anna has {number} apples and buys 30 more. How many does she have?",
            "answer": f"{number} + 30 = <<{number}+30={number + 30}>>{number + 30}\n#### "
            f"{number + 30}",
        }
        for number in range(12, 20)
    ]
    for split in ("train", "test"):
        (directory / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def test_adapters_train_on_what_the_script_writes(gsm8k: Path, tmp_path: Path) -> None:
    """Prevents a path that breaks between the tokenizer, the adapters and the paper's prompts."""
    model = tmp_path / "model"
    words = "--num_layers 1 --width 32 --vocabulary_size 400 --steps 2 --batch_size 2".split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "NUM_HELD_OUT_EXAMPLES", 4)
        pretrain.main(["--gsm8k", str(gsm8k), "--output_dir", str(model), *words])
    assert json.loads((model / "measures.json").read_text())["perplexity"] > 1

    local = {"model_name_or_path": str(model), "dataset_name": str(gsm8k)}
    plan = read_comparison({**TINY, **local}, OPTIONS)
    assert list(plan.arms) == ["ppo", "cory"]
    assert plan.base_config.use_peft
    metrics = CORYTrainer(args=plan.runs(tmp_path)[1].args).train()
    assert 0 <= metrics["agent_1/task_reward"] <= 2


def test_the_marks_of_the_calculator_are_not_learned(gsm8k: Path) -> None:
    """Prevents answers such as `<<12+30=42>>`, which the prompts of the task do not have."""
    _, solution = pretrain.load_problems(str(gsm8k), "train", 1)[0]
    assert solution == "12 + 30 = 42\n#### 42"


def test_slips_change_numbers_only() -> None:
    """Prevents references whose words are wrong, or that are always right."""
    solution = "She has 12 + 30 = 42 apples.\n#### 42"
    slipped = [pretrain.with_slips(solution, random.Random(seed)) for seed in range(20)]
    assert len(set(slipped)) > 5
    assert {"".join(c for c in text if not c.isdigit()) for text in slipped} == {
        "She has  +  =  apples.\n#### "
    }
