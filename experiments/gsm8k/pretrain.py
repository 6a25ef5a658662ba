"""Make a tiny Llama that writes in the manner of GSM8K solutions, to prove the path on a CPU.

    python -m experiments.gsm8k.pretrain --gsm8k openai/gsm8k --output_dir runs/gsm8k-model

`--gsm8k` is a Hub name (its configuration `main`) or a directory with train and test files. It
writes the model with its tokenizer and `measures.json`. It learns from the train questions, in the
paper's one-shot prompts, the observer's among them. It learns the form of a solution, not
mathematics: no conclusion about CORY can be drawn from what it is rewarded for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cory.tasks.data import find_splits, require_columns
from cory.tasks.gsm8k import DEFAULTS, EXAMPLE
from cory.team.prompts import PromptEncoder
from scripts.pocket.training import (
    IGNORED,
    Example,
    batched,
    collate,
    pocket_templates,
    save,
    train,
)

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]
MAX_LENGTH = 1024
REFERENCE_SHARE = 0.3
"""Share of examples that show an earlier solution."""
SLIP_RATE = 0.2
"""Share of the numbers of such a solution that are wrong."""
NUM_HELD_OUT_EXAMPLES = 256

Problem = tuple[str, str]
"""A question and its solution."""


def load_problems(name: str, split: str, num_problems: int | None) -> list[Problem]:
    """The first `num_problems` (None: all), solutions without the marks of a calculator."""
    dataset = require_columns(
        find_splits(name, DEFAULTS["dataset_config"])[split](), ["question", "answer"], name
    )
    answers = [re.sub(r"<<.*?>>", "", answer) for answer in dataset["answer"][:]]
    return list(zip(dataset["question"][:], answers, strict=True))[:num_problems]


def make_tokenizer(problems: list[Problem], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Byte-level byte pairs with single digits and a BOS in front, as Llama has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"Question: {question}\nAnswer: {answer}\n" for question, answer in problems]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def make_llama(
    tokenizer: PreTrainedTokenizerFast, *, num_layers: int, width: int
) -> LlamaForCausalLM:
    """A Llama of the given size with tied embeddings, newly initialised."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            # Three matrices of this width cost about what GPT-2's two of four widths do.
            intermediate_size=8 * width // 3,
            num_hidden_layers=num_layers,
            num_attention_heads=width // 32,
            num_key_value_heads=width // 32,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def with_slips(solution: str, rng: random.Random) -> str:
    """The solution with some of its numbers wrong, as an earlier answer may be."""
    return re.sub(
        r"\d+",
        lambda number: str(rng.randint(1, 99)) if rng.random() < SLIP_RATE else number[0],
        solution,
    )


def examples(problems: list[Problem], encoder: PromptEncoder, seed: int) -> Iterator[Example]:
    """Prompts of pioneers and observers with the published solution; the worked example is given.

    Questions are learned along with solutions: they are all the English that there is.
    """
    tokenizer = encoder.tokenizer
    rng = random.Random(seed)
    num_given = len(tokenizer(EXAMPLE)["input_ids"])
    while True:
        for question, solution in rng.sample(problems, len(problems)):
            earlier = []
            if rng.random() < REFERENCE_SHARE:
                text = " " + with_slips(solution, rng)
                earlier = [tokenizer(text, add_special_tokens=False)["input_ids"]]
            answer = tokenizer(" " + solution, add_special_tokens=False)["input_ids"]
            ids = [*encoder.encode(question, earlier), *answer, tokenizer.eos_token_id]
            if len(ids) <= MAX_LENGTH:
                yield ids, [IGNORED] * num_given + ids[num_given:]


@torch.inference_mode()
def perplexity(model: LlamaForCausalLM, held_out: list[Example], pad_token_id: int) -> float:
    """Per token, mean over batches of texts that the model has not met."""
    losses = [
        float(model(**collate(held_out[start : start + 32], pad_token_id)).loss)
        for start in range(0, len(held_out), 32)
    ]
    return math.exp(sum(losses) / len(losses))


def main(words: list[str] | None = None) -> None:
    """Parse the command line, train the model, print and write its measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gsm8k", required=True, help="Hub name or directory of the questions")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--vocabulary_size", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=4e-3)
    parser.add_argument("--num_problems", type=int, help="of each split, at most [all]")
    options = parser.parse_args(words)

    started = time.perf_counter()
    torch.manual_seed(options.seed)
    learned, judged = (
        load_problems(options.gsm8k, split, options.num_problems) for split in ("train", "test")
    )
    tokenizer = make_tokenizer(learned, options.vocabulary_size)
    model = make_llama(tokenizer, num_layers=options.num_layers, width=options.width)
    ends = frozenset({int(tokenizer.eos_token_id)})
    encoder = PromptEncoder(tokenizer, pocket_templates(DEFAULTS), ends)
    pad = int(tokenizer.pad_token_id)
    texts = examples(learned, encoder, options.seed)
    batches = batched(texts, batch_size=options.batch_size, pad_token_id=pad, seed=options.seed)
    train(
        model, batches, num_steps=options.steps, learning_rate=options.learning_rate, name="llama"
    )
    held_out = list(itertools.islice(examples(judged, encoder, 0), NUM_HELD_OUT_EXAMPLES))
    measures = {"perplexity": perplexity(model, held_out, pad)}
    save(model, tokenizer, options.output_dir)
    measures["seconds"] = time.perf_counter() - started
    text = json.dumps(measures)
    (options.output_dir / "measures.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
