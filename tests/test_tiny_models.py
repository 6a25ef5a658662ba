"""The tiny models keep the traits of the real ones that other tests rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)


def test_gpt2_has_no_pad_token(tiny_gpt2_dir: Path) -> None:
    """Prevents a library release that adds one, which would leave its absence untested."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2_dir)
    assert tokenizer.pad_token is None
    assert tokenizer.eos_token == "<|endoftext|>"


def test_llama_adds_bos_and_pads_with_eos(tiny_llama_dir: Path) -> None:
    """Prevents templates being tested only on tokenizers that add nothing."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    assert tokenizer("A film").input_ids[0] == tokenizer.bos_token_id
    assert tokenizer.pad_token == tokenizer.eos_token == "</s>"
    chat = [{"role": "user", "content": "A film"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert prompt == "<s>[user] A film\n[assistant] "


@pytest.mark.parametrize("fixture", ["tiny_gpt2_dir", "tiny_llama_dir"])
def test_language_models_are_far_from_uniform(fixture: str, request: pytest.FixtureRequest) -> None:
    """Prevents tests of KL and ratios on distributions that hardly differ."""
    directory = request.getfixturevalue(fixture)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    text = "A quiet café × 2"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    with torch.no_grad():
        probabilities = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)
    assert (probabilities.max(-1).values > 5 / model.config.vocab_size).all()


def test_the_classifier_tells_texts_apart(tiny_classifier_dir: Path) -> None:
    """Prevents reward tests that pass with every reward the same."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_classifier_dir)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_dir).eval()
    assert model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    with torch.no_grad():
        batch = tokenizer(["A dull plot.", "I loved it!"], padding=True, return_tensors="pt")
        first, second = model(**batch).logits[:, 1].tolist()
    assert abs(first - second) > 0.01
