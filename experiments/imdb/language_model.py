"""A GPT-2-style language model of review openings, some shown as the observer meets them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from cory.prompts import PromptEncoder
from cory.tasks.imdb import DEFAULTS
from experiments.imdb.texts import PairSource
from scripts.pocket.training import IGNORED, Example, collate, pocket_templates, wrap_tokenizer

MAX_LENGTH = 128
NUM_TOKENS = 32
"""Tokens of a review that are learned: queries and answers together have at most 23."""
OPENING_CHARACTERS = 300
ANSWER_TOKENS = (4, 15)
NUM_HELD_OUT_EXAMPLES = 2048


def make_lm_tokenizer(texts: Sequence[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Byte-level byte pairs as in GPT-2, learned from openings and the observer's template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=["<pad>", "<eos>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    template = DEFAULTS["observer_template"].format(query="", references="")
    tokenizer.train_from_iterator(
        [*(text[:OPENING_CHARACTERS] for text in texts), *[template] * 200], trainer
    )
    return wrap_tokenizer(tokenizer, MAX_LENGTH)


def encode_openings(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """The first `NUM_TOKENS` tokens of each text; a shorter text has its end, too."""
    end = tokenizer.eos_token_id
    encoded = tokenizer(
        [text[:OPENING_CHARACTERS] for text in texts], truncation=True, max_length=NUM_TOKENS
    )["input_ids"]
    return [[*ids, end][:NUM_TOKENS] for ids in encoded]


class LanguageModelText:
    """Endless examples: openings as they are, and, for a share of them, pairs.

    A pair is written as the team composes it: the less positive opening quoted in the observer's
    template, then the query, and as the text to learn the more positive opening. A pretrained
    model of some size knows how to look at a quotation; one as small as this has to be shown.

    Args:
        openings: token ids.
        scores: how positive each is.
        tokenizer: of the model.
        pair_share: share of examples that are pairs.
        seed: of all draws.
    """

    def __init__(
        self,
        openings: list[list[int]],
        scores: Sequence[float],
        tokenizer: PreTrainedTokenizerFast,
        *,
        pair_share: float,
        seed: int,
    ) -> None:
        self.openings = openings
        self.tokenizer = tokenizer
        self.pair_share = pair_share
        self.rng = random.Random(seed)
        self.pairs = PairSource(openings, scores, seed)
        ends = frozenset({int(tokenizer.eos_token_id)})
        self.encoder = PromptEncoder(tokenizer, pocket_templates(DEFAULTS), ends)

    def examples(self) -> Iterator[Example]:
        """Token ids and labels; each pass over the openings is in a new order."""
        while True:
            for row in self.rng.sample(range(len(self.openings)), len(self.openings)):
                if self.rng.random() < self.pair_share:
                    yield self.pair_example()
                else:
                    yield self.openings[row], self.openings[row]

    def pair_example(self, answer_row: int | None = None) -> Example:
        """A drawn pair; with `answer_row` the answer shown is that opening's, which tells nothing.

        Of the prompt nothing is learned.
        """
        pair = self.pairs.draw()
        better = self.openings[pair.better]
        worse = self.openings[pair.worse if answer_row is None else answer_row]
        cut = pair.num_query_tokens
        shown = worse[cut : cut + self.rng.randint(*ANSWER_TOKENS)]
        prompt = self.encoder.encode(self.tokenizer.decode(better[:cut]), [shown])
        return prompt + better[cut:], [IGNORED] * len(prompt) + better[cut:]


@torch.inference_mode()
def mean_loss(model: GPT2LMHeadModel, examples: Sequence[Example], pad_token_id: int) -> float:
    """Nats per learned token."""
    total = count = 0.0
    for start in range(0, len(examples), 256):
        batch = collate(list(examples[start : start + 256]), pad_token_id)
        # Of a sequence's first token there is no prediction.
        learned = int((batch["labels"][:, 1:] != IGNORED).sum())
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        total += float(model(**inputs).loss) * learned
        count += learned
    return total / count


def measure_language_model(model: GPT2LMHeadModel, held_out: LanguageModelText) -> dict[str, float]:
    """Perplexities on openings it has not met, and on pairs of them with and without a hint.

    `other_reference` shows an answer of another opening in the place of the pair's own: if the
    model looks at its reference, that one is worse.
    """
    plain = [(ids, ids) for ids in held_out.openings[:NUM_HELD_OUT_EXAMPLES]]
    rows = range(NUM_HELD_OUT_EXAMPLES)
    state = held_out.rng.getstate(), held_out.pairs.rng.getstate()
    own = [held_out.pair_example() for _ in rows]
    # The same pairs again.
    held_out.rng.setstate(state[0])
    held_out.pairs.rng.setstate(state[1])
    other = [held_out.pair_example(row % len(held_out.openings)) for row in rows]
    pad = int(held_out.tokenizer.pad_token_id)
    return {
        "lm_perplexity": math.exp(mean_loss(model, plain, pad)),
        "lm_perplexity_pairs": math.exp(mean_loss(model, own, pad)),
        "lm_perplexity_pairs_other_reference": math.exp(mean_loss(model, other, pad)),
    }
