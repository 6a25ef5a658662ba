"""A GPT-2-style language model of review openings, some shown as the observer meets them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from cory.tasks.imdb import DEFAULTS
from cory.team.prompts import PromptEncoder
from experiments.imdb.texts import MAX_QUERY_TOKENS, MIN_QUERY_TOKENS, PairSource
from scripts.pocket.training import IGNORED, Example, collate, pocket_templates, wrap_tokenizer

MAX_LENGTH = 128
NUM_TOKENS = 32
"""Tokens of a review that are learned: queries and answers together have at most 23."""
OPENING_CHARACTERS = 300
ANSWER_TOKENS = (4, 15)
SLIP_RATE = 0.25
"""Share of the tokens of an answer to be repaired that come from a less positive opening."""
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
    """Endless examples: openings as they are, and two kinds of better answers.

    Better answers are written as the team composes them: an answer quoted in the observer's
    template, then the query, and as the text to learn a more positive answer. In a *pair* the two
    are real openings that begin alike. In a *repair* the text to learn is a positive opening, and
    the quotation is the same opening with some tokens from a negative one. A pretrained model of
    some size knows how to look at a quotation; one as small as this has to be shown, and pairs
    alone, whose two texts part soon, do not show it.

    Args:
        openings: token ids.
        scores: how positive each is.
        tokenizer: of the model.
        seed: of all draws.

    Raises:
        ValueError: all openings are positive, or none is.
    """

    def __init__(
        self,
        openings: list[list[int]],
        scores: Sequence[float],
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
    ) -> None:
        self.openings = openings
        self.tokenizer = tokenizer
        self.positive = [row for row, score in enumerate(scores) if score > 0]
        self.negative = [row for row, score in enumerate(scores) if score <= 0]
        if not self.positive or not self.negative:
            raise ValueError(
                f"the classifier finds {len(self.positive)} of {len(openings)} openings positive; "
                "repairs need both kinds: give it more --classifier_steps"
            )
        self.rng = random.Random(seed)
        self.pairs = PairSource(openings, scores, seed)
        ends = frozenset({int(tokenizer.eos_token_id)})
        self.encoder = PromptEncoder(tokenizer, pocket_templates(DEFAULTS), ends)

    def examples(self, pair_share: float, repair_share: float) -> Iterator[Example]:
        """Token ids and labels; each pass over the openings is in a new order."""
        while True:
            for row in self.rng.sample(range(len(self.openings)), len(self.openings)):
                draw = self.rng.random()
                if draw < pair_share:
                    yield self.pair_example()
                elif draw < pair_share + repair_share:
                    yield self.repair_example()
                else:
                    yield self.openings[row], self.openings[row]

    def pair_example(self) -> Example:
        """A drawn pair."""
        pair = self.pairs.draw()
        better, worse = self.openings[pair.better], self.openings[pair.worse]
        cut = pair.num_query_tokens
        shown = worse[cut : cut + self.rng.randint(*ANSWER_TOKENS)]
        return self._improved(better[:cut], shown, better[cut:])

    def repair_example(self, shown_row: int | None = None) -> Example:
        """A drawn repair; with `shown_row` that opening is quoted instead, which tells nothing."""
        better = self.openings[self.rng.choice(self.positive)]
        worse = self.openings[self.rng.choice(self.negative)]
        cut = self.rng.randint(MIN_QUERY_TOKENS, MAX_QUERY_TOKENS)
        end = cut + self.rng.randint(*ANSWER_TOKENS)
        answer = better[cut:end]
        slipped = [
            worse[place] if self.rng.random() < SLIP_RATE and place < len(worse) else token
            for place, token in enumerate(answer, start=cut)
        ]
        shown = slipped if shown_row is None else self.openings[shown_row][cut:end]
        return self._improved(better[:cut], shown, answer)

    def _improved(self, query: list[int], shown: list[int], answer: list[int]) -> Example:
        """The observer's prompt, of which nothing is learned, and the answer."""
        prompt = self.encoder.encode(self.tokenizer.decode(query), [shown])
        return prompt + answer, [IGNORED] * len(prompt) + answer


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
    """Perplexities on openings it has not met, as they are, in pairs and in repairs.

    `other_reference` quotes another opening than the one to be repaired: as far as the model looks
    at its reference, that one is worse.
    """
    rows = range(NUM_HELD_OUT_EXAMPLES)
    state = held_out.rng.getstate()
    own = [held_out.repair_example() for _ in rows]
    # The same draws again.
    held_out.rng.setstate(state)
    other = [held_out.repair_example(row % len(held_out.openings)) for row in rows]
    kinds = {
        "lm_perplexity": [(ids, ids) for ids in held_out.openings[:NUM_HELD_OUT_EXAMPLES]],
        "lm_perplexity_pairs": [held_out.pair_example() for _ in rows],
        "lm_perplexity_repairs": own,
        "lm_perplexity_repairs_other_reference": other,
    }
    pad = int(held_out.tokenizer.pad_token_id)
    return {name: math.exp(mean_loss(model, texts, pad)) for name, texts in kinds.items()}
