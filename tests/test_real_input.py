"""The real data through the command line: train, evaluate, and load the agents without cory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from pyarrow import parquet
from transformers import AutoModelForCausalLM, AutoTokenizer

from cory.cli import main
from cory.team.metrics import read_metrics

SIZES = "--max_steps 3 --batch_size 4 --num_eval_queries 4 --per_device_train_batch_size 4".split()


def train_and_evaluate(words: list[str], run: Path) -> dict[str, dict[str, float]]:
    """What `cory eval` writes after 3 iterations of `cory train`."""
    main(["train", *words, *SIZES, "--output_dir", str(run)])
    steps = [record["step"] for record in read_metrics(run / "metrics.jsonl")]
    assert sorted(set(steps)) == [1, 2, 3]
    main(["eval", str(run), "--num_queries", "2"])
    return json.loads((run / "eval.json").read_text())["metrics"]


def check_loads(model: torch.nn.Module, directory: Path) -> torch.Tensor:
    """Let an agent continue a text by its own; returns its logits."""
    tokens = AutoTokenizer.from_pretrained(directory)("This film is", return_tensors="pt")
    assert model.generate(**tokens, max_new_tokens=3, do_sample=False).shape[0] == 1
    with torch.no_grad():
        return model(**tokens).logits


def every_25th_review(shared_data: Path, directory: Path) -> Path:
    """A directory with real reviews of both classes; `tests/tasks/test_imdb.py` reads them all."""
    reviews = directory / "reviews"
    reviews.mkdir()
    for name in ("train.parquet", "test.parquet"):
        whole = parquet.read_table(shared_data / "imdb" / name)
        parquet.write_table(whole.take(list(range(0, len(whole), 25))), reviews / name)
    return reviews


def test_imdb(
    shared_data: Path, tiny_gpt2_dir: Path, tiny_classifier_dir: Path, tmp_path: Path
) -> None:
    """Prevents an imdb task that works on made-up reviews only: full copies of a GPT-2."""
    words = [
        *("--task", "imdb", "--dataset_name", str(every_25th_review(shared_data, tmp_path))),
        *("--model_name_or_path", str(tiny_gpt2_dir)),
        *("--reward_model_name_or_path", str(tiny_classifier_dir)),
    ]
    metrics = train_and_evaluate(words, tmp_path)
    assert list(metrics) == ["initial model", "agent_0", "agent_1"]
    assert metrics["agent_0"]["kl"] > metrics["initial model"]["kl"]
    logits = []
    for name in ("agent_0", "agent_1"):
        directory = tmp_path / "checkpoints" / "step-3" / name
        logits.append(check_loads(AutoModelForCausalLM.from_pretrained(directory), directory))
    assert not torch.equal(logits[0], logits[1])


def test_gsm8k(shared_data: Path, tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents a gsm8k task that works on made-up questions only: adapters on a 4-bit Llama."""
    pytest.importorskip("bitsandbytes")
    words = [
        *("--task", "gsm8k", "--dataset_name", str(shared_data / "gsm8k")),
        *("--model_name_or_path", str(tiny_llama_dir)),
        *("--max_completion_length", "12"),
    ]
    metrics = train_and_evaluate(words, tmp_path)
    # Random weights solve nothing, so there is no reward to learn from: what counts is the way.
    for name in ("initial model", "agent_0", "agent_1"):
        assert 0 <= metrics[name]["pass@1"] <= metrics[name]["pass@5"] <= 1
    for name in ("agent_0", "agent_1"):
        directory = tmp_path / "checkpoints" / "step-3" / name
        check_loads(AutoPeftModelForCausalLM.from_pretrained(directory), directory)
