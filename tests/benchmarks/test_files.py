"""`benchmarks.files`: every trainer gets the same work, and all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.cases import SHAPES
from benchmarks.files import NUM_PROMPTS, make_prompts, make_tokenizer, model_config, read_texts
from benchmarks.floor import weights_in_products


def test_no_answer_can_end_early(tiny_files: Path) -> None:
    """Prevents comparisons in which chance decides how long answers are."""
    config = AutoConfig.from_pretrained(tiny_files / "language-model")
    assert config.eos_token_id == config.vocab_size
    model = AutoModelForCausalLM.from_pretrained(tiny_files / "language-model")
    assert model.generation_config.eos_token_id == config.vocab_size
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0, 0, 0)


@pytest.mark.parametrize("vocabulary", [300, 12_000])
def test_every_token_of_the_model_has_a_text(vocabulary: int) -> None:
    """Prevents rewards of texts with holes; few texts have as many merges as a model has tokens."""
    tokenizer = make_tokenizer(vocabulary, read_texts(None)[:200])
    assert len(tokenizer) == vocabulary + 1
    assert tokenizer.eos_token_id == vocabulary
    assert all(tokenizer.batch_decode([[token] for token in range(1, vocabulary, 97)]))


@pytest.mark.parametrize("bounds", [(2, 8), (64, 128)])
def test_prompts_have_the_lengths_asked_for(bounds: tuple[int, int]) -> None:
    """Prevents another amount of work than the case states; texts here are shorter than 64."""
    texts = read_texts(None)
    tokenizer = make_tokenizer(320, texts[:200])
    shortest, longest = bounds
    prompts = make_prompts(tokenizer, texts, 130, bounds)
    lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
    assert len(prompts) == 130
    assert min(lengths) >= shortest - 1
    assert max(lengths) == longest
    assert len(set(lengths)) >= longest - shortest


def test_files_hold_prompts_for_the_largest_case(tiny_files: Path) -> None:
    """Prevents cases that quietly run on fewer prompts than their batch has."""
    assert len(json.loads((tiny_files / "prompts.json").read_text())) == NUM_PROMPTS
    facts = json.loads((tiny_files / "facts.json").read_text())
    shape = SHAPES["tiny"]
    assert facts["body_weights"] == shape.layers * 12 * shape.width**2
    assert facts["head_weights"] == shape.vocabulary * shape.width


def test_the_llama_of_the_bench_is_the_one_of_135_million() -> None:
    """Prevents a shape that has that name alone, and a tied head that is counted twice."""
    shape = SHAPES["smollm2"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config(shape, shape.vocabulary))
    body, head = weights_in_products(model)
    assert body == 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)
    assert head == 49152 * 576
    norms = 61 * 576
    assert model.num_parameters() == body + head + norms == 134_515_008


def test_texts_come_from_a_parquet_file(tmp_path: Path) -> None:
    """Prevents a directory without reviews from ending in a library's error."""
    with pytest.raises(ValueError, match=r"train\.parquet is not there: name a directory"):
        read_texts(tmp_path)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["A film."]}), tmp_path / "train.parquet")
    assert read_texts(tmp_path) == ["A film."]
