"""CPU seconds of one CORY iteration on real IMDB prompts, at the size of the paper's IMDB setting.

A random 4-layer, 256-wide GPT-2 with a vocabulary of 8,192 and a tiny random classifier, batch 256,
4 to 16 new tokens, 4 PPO epochs, both agents, full KL reported:

    OMP_NUM_THREADS=1 python -m benchmarks.iteration --imdb DIRECTORY [--num_tokens 10]

10 new tokens are the mean of 4 to 16. CPU seconds stand beside the floor (`benchmarks/floor.py`).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow.parquet
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from benchmarks.floor import floor_flop, matrix_rate
from cory import CORYConfig, CORYTrainer

VOCABULARY = 8192
WIDTH = 256
NUM_TRAINING_REVIEWS = 5000


def train_tokenizer(imdb: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the reviews."""
    reviews = pyarrow.parquet.read_table(imdb / "train.parquet")["text"].to_pylist()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.train_from_iterator(reviews[:NUM_TRAINING_REVIEWS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def save_models(directory: Path, imdb: Path) -> tuple[Path, Path]:
    """Write the language model and the classifier."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(imdb)
    language_model = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=128, n_embd=WIDTH, n_layer=4, n_head=4)
    )
    classifier = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=VOCABULARY, dim=32, hidden_dim=64, n_layers=1, n_heads=2)
    )
    paths = directory / "language-model", directory / "classifier"
    for path, model in zip(paths, (language_model, classifier), strict=True):
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    return paths


def measure(imdb: Path, num_agents: int, num_tokens: int, steps: int) -> dict[str, float]:
    """Train and take the median of all iterations but the first, which warms up."""
    with tempfile.TemporaryDirectory() as directory:
        language_model, classifier = save_models(Path(directory), imdb)
        args = CORYConfig.for_task(
            "imdb",
            dataset_name=str(imdb),
            model_name_or_path=str(language_model),
            reward_model_name_or_path=str(classifier),
            output_dir=f"{directory}/run",
            num_agents=num_agents,
            min_completion_length=None,
            max_completion_length=num_tokens,
            max_steps=steps,
            log_samples_steps=None,
            use_cpu=True,
        )
        trainer = CORYTrainer(args=args)
        rates = [matrix_rate()]
        used: list[float] = []
        for step in range(steps):
            started = time.process_time()
            trainer.iterate(step)
            used.append(time.process_time() - started)
            rates.append(matrix_rate())
        iteration = trainer.rollout.run(trainer.queries.at(steps), steps)
        flop = sum(
            floor_flop(trainer.policies[0].model, experience.batch, args.num_ppo_epochs)
            for experience in iteration.experiences
        )
    seconds, rate = statistics.median(used[1:]), max(rates)
    return {
        "num_agents": num_agents,
        "num_tokens": num_tokens,
        "threads": torch.get_num_threads(),
        "cpu_seconds": seconds,
        "floor_seconds": flop / rate,
        "times_floor": seconds * rate / flop,
        "matrix_gflop_per_second": rate / 1e9,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Parse the command line, measure, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imdb", type=Path, required=True, help="directory with train.parquet")
    parser.add_argument("--num_agents", type=int, default=2)
    parser.add_argument("--num_tokens", type=int, default=16, help="length of every answer")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    print(json.dumps(measure(options.imdb, options.num_agents, options.num_tokens, options.steps)))


if __name__ == "__main__":
    main()
