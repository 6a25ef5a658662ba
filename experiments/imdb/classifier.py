"""A small DistilBERT that tells positive from negative reviews: the reward of the experiment."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import WordPieceTrainer
from torch import Tensor
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from experiments.imdb.texts import Reviews
from scripts.pocket.training import wrap_tokenizer

MAX_LENGTH = 128
BATCH_SIZE = 64
VOCABULARY = 8192
NUM_TOKENIZER_REVIEWS = 8000
LABEL_SMOOTHING = 0.02
"""Keeps the logits within about ±4: the classifier must never be quite sure."""
CROP_WORDS = [(6, 24), (24, 90)]
"""Lengths of the pieces it learns from. What it is to judge is as short as the first kind."""
OPENING_WORDS = 16


def make_classifier_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Lower-case word pieces with a token to classify by in front."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<eos>", "<unk>", "<cls>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts[:NUM_TOKENIZER_REVIEWS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<cls> $A", special_tokens=[("<cls>", tokenizer.token_to_id("<cls>"))]
    )
    wrapped = wrap_tokenizer(tokenizer, MAX_LENGTH)
    wrapped.padding_side = "right"
    return wrapped


def make_classifier(
    tokenizer: PreTrainedTokenizerFast, *, num_layers: int, width: int
) -> DistilBertForSequenceClassification:
    """A DistilBERT without dropout, newly initialised."""
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_LENGTH,
        dim=width,
        hidden_dim=2 * width,
        n_layers=num_layers,
        n_heads=max(1, width // 32),
        activation="relu",
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
        # A softmax would fix the difference of the two logits only. This way each is learned as
        # log-odds of its own, and the positive one alone is a reward.
        problem_type="multi_label_classification",
    )
    return DistilBertForSequenceClassification(config)


def crop(text: str, num_words: tuple[int, int], rng: random.Random) -> str:
    """A run of words from anywhere in the text, of a length drawn from `num_words`."""
    words = text.split()
    length = rng.randint(*num_words)
    start = rng.randint(0, max(0, len(words) - length))
    return " ".join(words[start : start + length])


def classifier_batches(
    reviews: Reviews, tokenizer: PreTrainedTokenizerFast, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Endless batches of pieces of reviews with the probabilities of both labels."""
    rng = random.Random(seed)
    while True:
        # One kind per batch, to save padding.
        num_words = rng.choice(CROP_WORDS)
        rows = [rng.randrange(len(reviews.texts)) for _ in range(BATCH_SIZE)]
        texts = [crop(reviews.texts[row], num_words, rng) for row in rows]
        positive = torch.tensor([float(reviews.labels[row]) for row in rows])
        positive = positive * (1 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        yield {**inputs, "labels": torch.stack([1 - positive, positive], dim=1)}


@torch.inference_mode()
def positive_logits(
    model: DistilBertForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
) -> Tensor:
    """(B,) on the CPU; of each text the first `MAX_LENGTH` tokens count."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    logits = torch.empty(len(texts))
    for start in range(0, len(order), 4 * BATCH_SIZE):
        rows = order[start : start + 4 * BATCH_SIZE]
        inputs = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt"
        ).to(model.device)
        logits[rows] = model(**inputs).logits[:, 1].float().cpu()
    return logits


def measure_classifier(
    model: DistilBertForSequenceClassification, tokenizer: PreTrainedTokenizerFast, reviews: Reviews
) -> dict[str, float]:
    """Accuracy on reviews it has not met, whole and cut to their first words."""
    truth = torch.tensor(reviews.labels) == 1
    openings = [" ".join(text.split()[:OPENING_WORDS]) for text in reviews.texts]
    whole, short = (positive_logits(model, tokenizer, texts) for texts in (reviews.texts, openings))
    low, middle, high = short.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return {
        "classifier_accuracy": float(((whole > 0) == truth).float().mean()),
        "classifier_accuracy_openings": float(((short > 0) == truth).float().mean()),
        "positive_logit_openings_q05": low,
        "positive_logit_openings_q50": middle,
        "positive_logit_openings_q95": high,
    }
