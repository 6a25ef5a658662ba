"""Training shared by the pocket models: padded batches, AdamW, a one-cycle schedule."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from cory.team.roles import Templates

IGNORED = -100
"""Label of tokens that are not to be learned."""

Example = tuple[list[int], list[int]]
"""Token ids and labels of one sequence, of equal length."""


def wrap_tokenizer(tokenizer: Tokenizer, max_length: int) -> PreTrainedTokenizerFast:
    """A transformers tokenizer around one that knows `<pad>`, `<eos>` and `<unk>`."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        # GPT-2 would add the embedding of token 0 for every token type.
        model_input_names=["input_ids", "attention_mask"],
    )


def make_gpt2(
    tokenizer: PreTrainedTokenizerFast, *, num_layers: int, width: int, num_heads: int
) -> GPT2LMHeadModel:
    """A GPT-2 of the given size without dropout, newly initialised."""
    config = GPT2Config(
        # On a CPU the Gaussian error units of GPT-2 take as long as all the rest of the step.
        activation_function="relu",
        vocab_size=len(tokenizer),
        n_positions=tokenizer.model_max_length,
        n_embd=width,
        n_layer=num_layers,
        n_head=num_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)


def pocket_templates(defaults: dict[str, Any]) -> Templates:
    """The prompt templates of a task, from its defaults."""
    return Templates(
        query=defaults["query_template"],
        observer=defaults["observer_template"],
        reference=defaults["reference_template"],
    )


def collate(examples: list[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Right-padded tensors; padding is neither attended to nor learned."""
    length = max(len(token_ids) for token_ids, _ in examples)
    padding = [length - len(token_ids) for token_ids, _ in examples]
    pairs = list(zip(examples, padding, strict=True))
    return {
        "input_ids": torch.tensor([ids + [pad_token_id] * extra for (ids, _), extra in pairs]),
        "labels": torch.tensor([labels + [IGNORED] * extra for (_, labels), extra in pairs]),
        "attention_mask": torch.tensor([[1] * len(i) + [0] * extra for (i, _), extra in pairs]),
    }


def batched(
    examples: Iterator[Example], *, batch_size: int, pad_token_id: int, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of examples of about the same length, in random order."""
    rng = random.Random(seed)
    while True:
        pool = sorted(
            itertools.islice(examples, 16 * batch_size), key=lambda example: len(example[0])
        )
        starts = list(range(0, len(pool), batch_size))
        rng.shuffle(starts)
        for start in starts:
            yield collate(pool[start : start + batch_size], pad_token_id)


def train(
    model: PreTrainedModel,
    batches: Iterator[dict[str, torch.Tensor]],
    *,
    num_steps: int,
    learning_rate: float,
    name: str,
) -> None:
    """Fit the model in place: warm-up over a twentieth of the steps, then cosine decay."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=num_steps, pct_start=0.05, cycle_momentum=False
    )
    start = time.perf_counter()
    model.train()
    for step in range(1, num_steps + 1):
        loss = model(**next(batches)).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == num_steps:
            seconds = time.perf_counter() - start
            print(f"{name} step {step}/{num_steps} loss {loss.item():.4f} {seconds:.0f} s")
    model.eval()


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Write a model and its tokenizer; weights are stored in float16, to be loaded as float32."""
    model.half().save_pretrained(directory)
    model.float()
    # `from_pretrained` loads in the number format that the configuration names.
    model.config.dtype = torch.float32
    model.config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    size = sum(path.stat().st_size for path in directory.iterdir())
    print(f"{directory.name}: {model.num_parameters():,} parameters, {size / 1e6:.2f} MB")
