"""Tiny models on disk, in Hugging Face format: GPT-2, Llama and DistilBERT as `cory` meets them.

Each has the traits of the real one that a trainer can trip over: GPT-2 has no pad token and keeps
its dropout; Llama's tokenizer adds a BOS by itself, pads with EOS and has a chat template. The
weights are random and seeded, and drawn wide enough that no output is close to uniform.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SENTENCES = (
    "This film is a quiet wonder, and I loved every minute of it.",
    "A dull plot, wooden acting, and a terrible ending. I want my money back!",
    "The first half drags; the second half is brilliant, funny and sad.",
    "Not the worst movie I have seen this year, but close to it.",
    "Question: Anna has 12 apples and buys 30 more. How many apples does she have?",
    "Answer: 12 + 30 = 42. She has 42 apples. #### 42",
    "Question: A book costs $7.50. What do 4 books cost?\nReference: $30\nAnswer: 4 * 7.5 = 30",
)
INITIALIZER_RANGE = 0.2
TINY = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] "
    "{{ message['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)


def tiny_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A model of any architecture with random weights, the same at every call."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def save_tiny_gpt2(directory: Path) -> Path:
    """Save a GPT-2: 2 layers, 32 wide, byte-level BPE, no pad token."""
    vocabulary = _byte_level_bpe(["<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=1024,
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=1024,
            n_embd=32,
            n_layer=2,
            n_head=4,
            initializer_range=INITIALIZER_RANGE,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return _save(model, tokenizer, directory)


def save_tiny_llama(directory: Path, head_dim: int = 8) -> Path:
    """Save a Llama: 2 layers, 32 wide, 4 query heads on 2 key-value heads, BOS added, chat.

    Args:
        directory: to write.
        head_dim: width of a head; attention kernels of other engines may want it larger.
    """
    vocabulary = _byte_level_bpe(["<s>", "</s>"])
    vocabulary.post_processor = TemplateProcessing(
        single="<s> $A",
        pair="<s> $A <s> $B",
        special_tokens=[("<s>", vocabulary.token_to_id("<s>"))],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=2048,
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=head_dim,
            max_position_embeddings=2048,
            initializer_range=INITIALIZER_RANGE,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return _save(model, tokenizer, directory)


def save_tiny_classifier(directory: Path) -> Path:
    """Save a DistilBERT with the labels NEGATIVE (0) and POSITIVE (1)."""
    vocabulary = _word_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )
    torch.manual_seed(2)
    model = DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=512,
            dim=32,
            hidden_dim=64,
            n_layers=2,
            n_heads=4,
            initializer_range=INITIALIZER_RANGE,
            pad_token_id=tokenizer.pad_token_id,
            id2label={0: "NEGATIVE", 1: "POSITIVE"},
            label2id={"NEGATIVE": 0, "POSITIVE": 1},
        )
    )
    return _save(model, tokenizer, directory)


def _byte_level_bpe(special_tokens: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _word_pieces(special_tokens: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=special_tokens, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, directory: Path) -> Path:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
