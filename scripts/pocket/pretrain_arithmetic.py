"""Pretraining of pocket-arithmetic-lm: first to do every step right, then to slip.

In the first phase every chain is right and no earlier answer is in view: the fastest way to learn
the sums. In the second the model learns to slip, to go on from a slip, and what an earlier answer
is for. Slips are then its only weakness: it can do every step, and only has to lose the habit of
slipping. Under-training would reach the same base accuracy, but then reinforcement learning would
have to teach arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from cory.prompts import PromptEncoder
from cory.tasks.pocket_arithmetic import DEFAULTS
from scripts.pocket.arithmetic_corpus import ArithmeticCorpus
from scripts.pocket.training import (
    IGNORED,
    Example,
    batched,
    make_gpt2,
    pocket_templates,
    save,
    train,
    wrap_tokenizer,
)

CHARACTERS = "0123456789+-=? "
BATCH_SIZE = 256
SLIP_RATE = 0.38
FIRST_STEPS = 600
SECOND_STEPS = 700


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character: a byte-pair vocabulary without merges."""
    vocabulary = ["<pad>", "<eos>", "<unk>", *CHARACTERS]
    tokenizer = Tokenizer(
        BPE({token: index for index, token in enumerate(vocabulary)}, [], unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Fuse()
    return wrap_tokenizer(tokenizer, max_length=128)


def examples(corpus: ArithmeticCorpus, encoder: PromptEncoder, seed: int) -> Iterator[Example]:
    """Prompts as the team composes them, and the answers; only answers are learned."""
    tokenizer = encoder.tokenizer
    for query, answers in corpus.examples(seed):
        *earlier, answer = [tokenizer.encode(answer) for answer in answers]
        prompt = encoder.encode(query, earlier)
        answer.append(tokenizer.eos_token_id)
        yield prompt + answer, [IGNORED] * len(prompt) + answer


def pretrain_arithmetic(output_dir: Path, *, slip_rate: float, seed: int) -> None:
    """Train and write `pocket-arithmetic-lm`."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_gpt2(tokenizer, num_layers=2, width=96, num_heads=4)
    model.generation_config.max_new_tokens = DEFAULTS["max_completion_length"]
    model.generation_config.do_sample = True
    encoder = PromptEncoder(tokenizer, pocket_templates(DEFAULTS), frozenset())
    phases = [
        ("right chains", ArithmeticCorpus(0.0, second_look_share=0.0), FIRST_STEPS, 3e-3),
        ("slips", ArithmeticCorpus(slip_rate), SECOND_STEPS, 2e-3),
    ]
    for index, (name, corpus, num_steps, learning_rate) in enumerate(phases):
        batches = batched(
            examples(corpus, encoder, seed=2 * seed + index),
            batch_size=BATCH_SIZE,
            pad_token_id=tokenizer.pad_token_id,
            seed=seed,
        )
        train(model, batches, num_steps=num_steps, learning_rate=learning_rate, name=name)
    save(model, tokenizer, output_dir / "pocket-arithmetic-lm")
