"""Pretraining of pocket-reviews-lm and pocket-reviews-reward, and the openings of the task."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from cory.tasks.pocket_reviews import DEFAULTS
from cory.team.prompts import PromptEncoder
from scripts.pocket.review_corpus import Review, good_probability, reviews
from scripts.pocket.training import (
    IGNORED,
    Example,
    batched,
    collate,
    make_gpt2,
    pocket_templates,
    save,
    train,
    wrap_tokenizer,
)

MAX_LENGTH = 128
BATCH_SIZE = 64
SPECIAL_TOKENS = ["<pad>", "<eos>", "<unk>"]

LM_VOCABULARY = 1536
LM_STEPS = 1600
LM_TEXT_TOKENS = 30
"""Reviews are learned up to here: queries and answers are shorter."""
PAIR_SHARE = 0.4
"""Share of examples that show an answer, to be made more positive."""

REWARD_VOCABULARY = 800
REWARD_STEPS = 1600
LABEL_SMOOTHING = 0.015
"""Keeps the logits within about ±4: the classifier must never be quite sure."""

NUM_TRAIN_OPENINGS = 4096
NUM_EVAL_OPENINGS = 512
OPENING_WORDS = 12

# One stream of reviews per purpose; none meets another's.
TOKENIZER_SEED, LM_SEED, REWARD_SEED, TRAIN_SEED, EVAL_SEED, REPORT_SEED = range(6)


def first_texts(num_texts: int, seed: int) -> list[str]:
    """The first reviews of a stream."""
    return [review.text() for review in itertools.islice(reviews(seed), num_texts)]


def make_lm_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level byte pairs as in GPT-2: nearly every word of the grammar is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LM_VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    literals = [DEFAULTS["observer_template"].format(query="", references="")] * 200
    tokenizer.train_from_iterator(first_texts(6000, TOKENIZER_SEED) + literals, trainer)
    return wrap_tokenizer(tokenizer, MAX_LENGTH)


def make_reward_tokenizer() -> PreTrainedTokenizerFast:
    """Lower-case word pieces with a token to classify by in front."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=REWARD_VOCABULARY,
        special_tokens=[*SPECIAL_TOKENS, "<cls>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(first_texts(6000, TOKENIZER_SEED), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<cls> $A", special_tokens=[("<cls>", tokenizer.token_to_id("<cls>"))]
    )
    wrapped = wrap_tokenizer(tokenizer, MAX_LENGTH)
    wrapped.padding_side = "right"
    return wrapped


def lm_examples(encoder: PromptEncoder, seed: int) -> Iterator[Example]:
    """Plain reviews, and answers made more positive, in the prompts that the team composes."""
    tokenizer = encoder.tokenizer
    rng = random.Random(seed)
    for review in reviews(seed):
        token_ids = encode_start(review, tokenizer)
        if rng.random() >= PAIR_SHARE:
            yield token_ids, token_ids
            continue
        pair = improved_pair(review, token_ids, encoder, rng)
        if pair is not None:
            yield pair


def encode_start(review: Review, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The first `LM_TEXT_TOKENS` of a review, its end counted as one."""
    text = review.text() + tokenizer.eos_token
    return tokenizer.encode(text, truncation=True, max_length=LM_TEXT_TOKENS)


def improved_pair(
    review: Review, token_ids: list[int], encoder: PromptEncoder, rng: random.Random
) -> Example | None:
    """An observer's prompt and a better answer; None if the query itself would have to change."""
    tokenizer = encoder.tokenizer
    cut = rng.randint(2, 8)
    answer_length = rng.choice([8, 12, DEFAULTS["max_completion_length"]])
    better_ids = encode_start(review.raised(rng), tokenizer)
    if better_ids[:cut] != token_ids[:cut]:
        return None
    prompt = encoder.encode(
        tokenizer.decode(token_ids[:cut]), [token_ids[cut : cut + answer_length]]
    )
    target = better_ids[cut:]
    return prompt + target, [IGNORED] * len(prompt) + target


def whole_text(review: Review, rng: random.Random) -> tuple[str, float]:
    """A review, and the probability that it is good."""
    return review.text(), good_probability(review.sentences)


def single_sentence(review: Review, rng: random.Random) -> tuple[str, float]:
    """One sentence, which is where negation is learned: in a whole review its trace is faint."""
    sentence = rng.choice(review.sentences)
    return sentence.text(), good_probability([sentence])


def cut_text(review: Review, rng: random.Random) -> tuple[str, float]:
    """The first words of a review; what half a sentence tells, the label itself has to teach."""
    return " ".join(review.text().split()[: rng.randint(4, 30)]), float(review.is_good)


def reward_batches(
    tokenizer: PreTrainedTokenizerFast, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Texts with the probabilities of both labels; a batch holds one kind, to save padding."""
    rng = random.Random(seed)
    stream = reviews(seed)
    while True:
        (make,) = rng.choices([whole_text, single_sentence, cut_text], weights=[1, 2, 2])
        texts, probabilities = zip(
            *(make(review, rng) for review in itertools.islice(stream, BATCH_SIZE)), strict=True
        )
        good = torch.tensor(probabilities) * (1 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING
        inputs = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        yield {**inputs, "labels": torch.stack([1 - good, good], dim=1)}


def pretrain_lm(output_dir: Path) -> None:
    """Train, measure and write `pocket-reviews-lm`."""
    tokenizer = make_lm_tokenizer()
    model = make_gpt2(tokenizer, num_layers=2, width=128, num_heads=4)
    model.generation_config.max_new_tokens = DEFAULTS["max_completion_length"]
    model.generation_config.do_sample = True
    encoder = PromptEncoder(tokenizer, pocket_templates(DEFAULTS), frozenset())
    batches = batched(
        lm_examples(encoder, LM_SEED),
        batch_size=BATCH_SIZE,
        pad_token_id=tokenizer.pad_token_id,
        seed=LM_SEED,
    )
    train(model, batches, num_steps=LM_STEPS, learning_rate=3e-3, name="reviews")
    print(f"perplexity on new reviews: {perplexity(model, tokenizer):.1f}")
    save(model, tokenizer, output_dir / "pocket-reviews-lm")


@torch.inference_mode()
def perplexity(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> float:
    """Per token, over the first `LM_TEXT_TOKENS` tokens of reviews the model has not met."""
    sample = itertools.islice(reviews(REPORT_SEED), 512)
    texts = [encode_start(review, tokenizer) for review in sample]
    return math.exp(model(**collate([(ids, ids) for ids in texts], tokenizer.pad_token_id)).loss)


def pretrain_reward(output_dir: Path) -> None:
    """Train, measure and write `pocket-reviews-reward`."""
    tokenizer = make_reward_tokenizer()
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_LENGTH,
        dim=64,
        hidden_dim=128,
        n_layers=2,
        n_heads=2,
        activation="relu",
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
        # A loss that takes probabilities as labels: each logit is learned as log-odds of its own.
        problem_type="multi_label_classification",
    )
    model = DistilBertForSequenceClassification(config)
    batches = reward_batches(tokenizer, REWARD_SEED)
    train(model, batches, num_steps=REWARD_STEPS, learning_rate=2e-3, name="reward")
    config.problem_type = "single_label_classification"
    for num_words in (16, None):
        report_reward(model, tokenizer, num_words)
    save(model, tokenizer, output_dir / "pocket-reviews-reward")


@torch.inference_mode()
def report_reward(
    model: DistilBertForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    num_words: int | None,
) -> None:
    """Print accuracy and the spread of the positive logit on new reviews, whole or cut."""
    sample = list(itertools.islice(reviews(REPORT_SEED), 1024))
    texts = [" ".join(review.text().split()[:num_words]) for review in sample]
    logits = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    truth = torch.tensor([review.is_good for review in sample])
    accuracy = (logits.argmax(dim=1) == truth).float().mean()
    quantiles = logits[:, 1].quantile(torch.tensor([0.0, 0.05, 0.5, 0.95, 1.0])).tolist()
    print(
        f"first {num_words or 'all'} words: accuracy {accuracy:.3f}, positive logit "
        f"{logits[:, 1].mean():.2f} (quantiles 0, 5, 50, 95, 100%: "
        + ", ".join(f"{quantile:.2f}" for quantile in quantiles)
        + ")"
    )


def write_openings(output_dir: Path) -> None:
    """Write the openings of reviews that queries are cut from: `pocket-reviews-data`."""
    directory = output_dir / "pocket-reviews-data"
    directory.mkdir(parents=True, exist_ok=True)
    for split, num_texts, seed in [
        ("train", NUM_TRAIN_OPENINGS, TRAIN_SEED),
        ("test", NUM_EVAL_OPENINGS, EVAL_SEED),
    ]:
        openings = [" ".join(text.split()[:OPENING_WORDS]) for text in first_texts(num_texts, seed)]
        lines = "".join(json.dumps({"text": opening}) + "\n" for opening in openings)
        (directory / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def pretrain_reviews(output_dir: Path, *, seed: int) -> None:
    """Train and write both models of pocket-reviews, and write its openings."""
    write_openings(output_dir)
    for pretrain_one in (pretrain_reward, pretrain_lm):
        torch.manual_seed(seed)
        pretrain_one(output_dir)
