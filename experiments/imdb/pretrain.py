"""Make a small language model and a sentiment classifier from real IMDB reviews.

    python -m experiments.imdb.pretrain --imdb stanfordnlp/imdb --output_dir runs/imdb-models

`--imdb` is a Hub name or a directory with train, test and unsupervised files. It writes
`language-model`, `classifier` and `measures.json`. The language model learns from the reviews of
train and unsupervised, the classifier from train; both are judged on test, which is also where the
imdb task takes the queries of its evaluations from.

The defaults are for a CPU. A model for a GPU is the same with other sizes, see the README.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import DistilBertForSequenceClassification, PreTrainedTokenizerFast

from experiments.imdb.classifier import (
    classifier_batches,
    make_classifier,
    make_classifier_tokenizer,
    measure_classifier,
    positive_logits,
)
from experiments.imdb.language_model import (
    LanguageModelText,
    encode_openings,
    make_lm_tokenizer,
    measure_language_model,
)
from experiments.imdb.texts import Reviews, load_reviews, without
from scripts.pocket.training import batched, make_gpt2, save, train


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        SystemExit: an option is missing, misspelt or out of its range.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imdb", required=True, help="Hub name or directory of the reviews")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 …")
    parser.add_argument("--num_layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--num_heads", type=int, default=4)
    parser.add_argument("--vocabulary_size", type=int, default=3072)
    parser.add_argument("--lm_steps", type=int, default=2400)
    parser.add_argument("--lm_batch_size", type=int, default=64)
    parser.add_argument("--lm_learning_rate", type=float, default=4e-3)
    parser.add_argument("--pair_share", type=float, default=0.3)
    parser.add_argument("--repair_steps", type=int, default=700)
    parser.add_argument("--repair_share", type=float, default=0.5)
    parser.add_argument("--classifier_layers", type=int, default=2)
    parser.add_argument("--classifier_width", type=int, default=64)
    parser.add_argument("--classifier_steps", type=int, default=1800)
    parser.add_argument("--classifier_learning_rate", type=float, default=2e-3)
    parser.add_argument("--num_reviews", type=int, help="of each split, at most [all]")
    options = parser.parse_args(words)
    shares = options.pair_share, options.repair_share
    if min(shares) < 0 or sum(shares) > 1:
        parser.error(f"--pair_share, --repair_share {shares} must be shares of the examples")
    return options


def on_device(batches: Iterator[dict[str, Tensor]], device: str) -> Iterator[dict[str, Tensor]]:
    """The same batches, where the model is."""
    for batch in batches:
        yield {name: tensor.to(device) for name, tensor in batch.items()}


def pretrain_classifier(
    options: argparse.Namespace, labelled: Reviews, held_out: Reviews
) -> tuple[DistilBertForSequenceClassification, PreTrainedTokenizerFast, dict[str, float]]:
    """Train, measure and write the classifier."""
    torch.manual_seed(options.seed)
    tokenizer = make_classifier_tokenizer(labelled.texts)
    model = make_classifier(
        tokenizer, num_layers=options.classifier_layers, width=options.classifier_width
    ).to(options.device)
    train(
        model,
        on_device(classifier_batches(labelled, tokenizer, options.seed), options.device),
        num_steps=options.classifier_steps,
        learning_rate=options.classifier_learning_rate,
        name="classifier",
    )
    model.config.problem_type = "single_label_classification"
    measures = measure_classifier(model, tokenizer, held_out)
    save(model, tokenizer, options.output_dir / "classifier")
    return model, tokenizer, measures


def pretrain_language_model(
    options: argparse.Namespace,
    reviews: Reviews,
    held_out: Reviews,
    classifier: tuple[DistilBertForSequenceClassification, PreTrainedTokenizerFast],
) -> dict[str, float]:
    """Train, measure and write the language model."""
    torch.manual_seed(options.seed)
    tokenizer = make_lm_tokenizer(reviews.texts, options.vocabulary_size)
    learned, judged = (
        LanguageModelText(
            openings := encode_openings(part.texts, tokenizer),
            positive_logits(
                *classifier, tokenizer.batch_decode(openings, skip_special_tokens=True)
            ).tolist(),
            tokenizer,
            options.seed,
        )
        for part in (reviews, held_out)
    )
    model = make_gpt2(
        tokenizer, num_layers=options.num_layers, width=options.width, num_heads=options.num_heads
    ).to(options.device)
    # Copying is learned best once there are words to copy.
    for name, num_steps, repair_share in [
        ("reviews", options.lm_steps, 0.0),
        ("repairs", options.repair_steps, options.repair_share),
    ]:
        batches = batched(
            learned.examples(options.pair_share, repair_share),
            batch_size=options.lm_batch_size,
            pad_token_id=tokenizer.pad_token_id,
            seed=options.seed,
        )
        train(
            model,
            on_device(batches, options.device),
            num_steps=num_steps,
            learning_rate=options.lm_learning_rate,
            name=name,
        )
    measures = measure_language_model(model, judged)
    save(model, tokenizer, options.output_dir / "language-model")
    return measures


def main(words: list[str] | None = None) -> None:
    """Parse the command line, train both models, print and write their measures."""
    options = parse_arguments(words)
    started = time.perf_counter()
    labelled, unlabelled, held_out = (
        load_reviews(options.imdb, split, options.num_reviews)
        for split in ("train", "unsupervised", "test")
    )
    everything = Reviews(labelled.texts + unlabelled.texts, labelled.labels + unlabelled.labels)
    new = without(everything, held_out)
    *classifier, measures = pretrain_classifier(options, without(labelled, held_out), held_out)
    measures |= pretrain_language_model(options, new, held_out, tuple(classifier))
    measures |= {
        "reviews_left_out_as_held_out": len(everything.texts) - len(new.texts),
        "seconds": time.perf_counter() - started,
    }
    places = {"imdb", "output_dir"}
    settings = {name: value for name, value in vars(options).items() if name not in places}
    text = json.dumps({"measures": measures, "settings": settings}, indent=1)
    (options.output_dir / "measures.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
