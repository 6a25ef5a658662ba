"""Pretraining of the pocket-arithmetic models: first to do every step right, then to slip.

In the first phase the model meets slips but learns none: it learns to go on rightly from whatever
the line before says. In the second it learns the slips too, which leaves them as its only weakness:
it can do every step, and only has to lose the habit of slipping. Under-training would reach the
same base accuracy, but then reinforcement learning would have to teach arithmetic.

The embedded model has two habits: plain answers slip at additions, answers with another in view at
subtractions. So what an observer unlearns is of no use on the plain query until roles are exchanged
or its answers are carried back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from cory.tasks.pocket_arithmetic import DEFAULTS
from cory.team.prompts import PromptEncoder
from scripts.pocket.arithmetic_corpus import ArithmeticCorpus, slip_by_fact, slip_by_operation
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
SECOND_STEPS = 500


@dataclass(frozen=True)
class Recipe:
    """What makes one model."""

    corpus: ArithmeticCorpus
    first_steps: int = 450
    """Optimizer steps until it does every step right."""


RECIPES = {
    "pocket-arithmetic-lm": Recipe(
        ArithmeticCorpus(slip_rate=0.56, second_look_ease=1.0, habit=slip_by_operation),
        first_steps=700,
    ),
    "pocket-arithmetic-one-habit-lm": Recipe(ArithmeticCorpus(slip_rate=0.39)),
    "pocket-arithmetic-sparse-lm": Recipe(ArithmeticCorpus(slip_rate=0.66)),
    "pocket-arithmetic-leaning-lm": Recipe(
        ArithmeticCorpus(slip_rate=0.39, second_look_ease=0.0, followed_rate=0.3), first_steps=700
    ),
    "pocket-arithmetic-seldom-lm": Recipe(
        ArithmeticCorpus(slip_rate=0.92, second_look_ease=1.0, habit=slip_by_operation),
        first_steps=700,
    ),
    "pocket-arithmetic-misled-lm": Recipe(
        ArithmeticCorpus(slip_rate=0.95, second_look_ease=1.0, habit=slip_by_fact),
        first_steps=700,
    ),
    "pocket-arithmetic-convinced-lm": Recipe(
        ArithmeticCorpus(slip_rate=0.99, second_look_ease=1.0, habit=slip_by_fact),
        first_steps=700,
    ),
    "pocket-arithmetic-rare-lm": Recipe(ArithmeticCorpus(slip_rate=0.90)),
    "pocket-arithmetic-rarest-lm": Recipe(ArithmeticCorpus(slip_rate=0.97)),
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character: a byte-pair vocabulary without merges."""
    vocabulary = ["<pad>", "<eos>", "<unk>", *CHARACTERS]
    tokenizer = Tokenizer(
        BPE({token: index for index, token in enumerate(vocabulary)}, [], unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Fuse()
    return wrap_tokenizer(tokenizer, max_length=128)


def examples(
    corpus: ArithmeticCorpus, encoder: PromptEncoder, seed: int, *, slips_are_learned: bool
) -> Iterator[Example]:
    """Prompts as the team composes them, and the answers; of a prompt nothing is learned."""
    tokenizer = encoder.tokenizer
    for query, chains in corpus.examples(seed):
        *earlier, answer = [tokenizer.encode(chain.text) for chain in chains]
        prompt = encoder.encode(query, earlier)
        labels = [
            token if slips_are_learned or not slipped else IGNORED
            for token, slipped in zip(answer, chains[-1].slipped, strict=True)
        ]
        end = [tokenizer.eos_token_id]
        yield prompt + answer + end, [IGNORED] * len(prompt) + labels + end


def pretrain_arithmetic(output_dir: Path, name: str, *, seed: int) -> None:
    """Train and write one of the models that `RECIPES` names."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_gpt2(tokenizer, num_layers=2, width=96, num_heads=4)
    model.generation_config.max_new_tokens = DEFAULTS["max_completion_length"]
    model.generation_config.do_sample = True
    encoder = PromptEncoder(tokenizer, pocket_templates(DEFAULTS), frozenset())
    recipe = RECIPES[name]
    for phase, slips_are_learned, num_steps, learning_rate in [
        ("right steps", False, recipe.first_steps, 4e-3),
        ("slips", True, SECOND_STEPS, 2e-3),
    ]:
        texts = examples(
            recipe.corpus,
            encoder,
            2 * seed + slips_are_learned,
            slips_are_learned=slips_are_learned,
        )
        batches = batched(
            texts, batch_size=BATCH_SIZE, pad_token_id=tokenizer.pad_token_id, seed=seed
        )
        train(model, batches, num_steps=num_steps, learning_rate=learning_rate, name=phase)
    save(model, tokenizer, output_dir / name)
