"""Models with random weights, and real prompts, on disk: the same files for every process.

The end-of-sequence token has an id behind the model's vocabulary, so that it is never sampled:
every answer has its full length, and every trainer the same work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from benchmarks.cases import SEED, Case, Shape
from benchmarks.floor import matrices, weights_in_products
from cory.assets import asset_path

PAD, END = "<|pad|>", "<|endoftext|>"
MAX_MERGED_VOCABULARY = 8192
NUM_TRAINING_TEXTS = 5000
NUM_PROMPTS = 1024
PAIRED_TOKENS = 512


def read_texts(directory: Path | None) -> list[str]:
    """Reviews: the column `text` of `train.parquet`; None: the package's own short ones.

    Raises:
        ValueError: the directory has no such file.
    """
    if directory is None:
        lines = (Path(asset_path("pocket-reviews-data")) / "train.jsonl").read_text().splitlines()
        return [json.loads(line)["text"] for line in lines]
    import pyarrow.parquet

    path = directory / "train.parquet"
    if not path.is_file():
        raise ValueError(f"{path} is not there: name a directory with train.parquet, or none")
    return pyarrow.parquet.read_table(path)["text"].to_pylist()


def save_files(directory: Path, case: Case, shape: Shape, texts: Sequence[str]) -> None:
    """Write what cases of this shape need: models, prompts, facts and matrices as JSON."""
    with _quiet():
        _save(directory, case, shape, texts)
    if case.device != "cpu":
        # This process stays alive, and the memory is wanted by those that measure.
        torch.accelerator.empty_cache()


def _save(directory: Path, case: Case, shape: Shape, texts: Sequence[str]) -> None:
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer(shape.vocabulary, texts[:NUM_TRAINING_TEXTS])
    end_id = shape.vocabulary
    with torch.device(case.device):
        language_model = AutoModelForCausalLM.from_config(
            model_config(shape, end_id), dtype=getattr(torch, case.dtype)
        )
        classifier = DistilBertForSequenceClassification(
            DistilBertConfig(
                vocab_size=end_id + 1, dim=32, hidden_dim=64, n_layers=1, n_heads=2, pad_token_id=0
            )
        )
    for name, model in (("language-model", language_model), ("classifier", classifier)):
        model.save_pretrained(directory / name)
        tokenizer.save_pretrained(directory / name)
    prompts = make_prompts(tokenizer, texts, NUM_PROMPTS, case.prompt_tokens)
    (directory / "prompts.json").write_text(json.dumps(prompts))
    body, head = weights_in_products(language_model)
    facts = {"body_weights": body, "head_weights": head, "model_bytes": _num_bytes(language_model)}
    (directory / "facts.json").write_text(json.dumps(facts))
    (directory / "matrices.json").write_text(json.dumps(matrices(language_model)))


def read_json(directory: Path, name: str) -> Any:
    """`prompts.json`, `facts.json` or `matrices.json`."""
    return json.loads((directory / name).read_text())


def model_config(shape: Shape, end_id: int) -> PreTrainedConfig:
    """No dropout, which would act in some trainers and not in others."""
    special = {"bos_token_id": None, "eos_token_id": end_id, "pad_token_id": 0}
    if shape.architecture == "gpt2":
        return GPT2Config(
            vocab_size=shape.vocabulary,
            n_positions=shape.positions,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            n_inner=shape.inner,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **special,
        )
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.positions,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        tie_word_embeddings=shape.tied,
        **special,
    )


def make_tokenizer(vocabulary: int, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the texts, filled up to the model's vocabulary with pairs of tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=min(vocabulary, MAX_MERGED_VOCABULARY),
            special_tokens=[PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    state = json.loads(tokenizer.to_str())
    ids: dict[str, int] = state["model"]["vocab"]
    fillers = (pair for pair in _pairs(list(ids)[::-1]) if pair not in ids)
    while len(ids) < vocabulary:
        ids[next(fillers)] = len(ids)
    filled = Tokenizer.from_str(json.dumps(state))
    filled.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=filled, pad_token=PAD, eos_token=END)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' warning of an end-of-sequence id outside of the vocabulary."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _pairs(tokens: Sequence[str]) -> Iterator[str]:
    # Two pairs may spell the same text.
    return iter(dict.fromkeys(map("".join, permutations(tokens[:PAIRED_TOKENS], 2))))


def make_prompts(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], number: int, bounds: tuple[int, int]
) -> list[str]:
    """Openings whose lengths are spread evenly over the bounds; short texts are joined."""
    shortest, longest = bounds
    prompts: list[str] = []
    for row in range(number):
        length = shortest + row % (longest - shortest + 1)
        start, opening = row, ""
        while len(ids := tokenizer(opening)["input_ids"]) < length:
            # The front of a review is enough, and much faster to tokenise than all of it.
            opening = f"{opening} {texts[start % len(texts)][: 16 * longest]}".strip()
            start += 1
        prompts.append(tokenizer.decode(ids[:length]))
    return prompts


def _num_bytes(model: torch.nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())
