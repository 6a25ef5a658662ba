"""Token generation: the only place that calls a generation backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from cory.batch import pad_prompts, position_ids, split_rows
from cory.policy import LanguageModel


@runtime_checkable
class Sampler(Protocol):
    """Anything that answers prompts with a policy's samples."""

    def generate(
        self,
        policy: LanguageModel,
        prompt_ids: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
    ) -> list[list[int]]:
        """One response per prompt: token ids, with the end-of-sequence token if it was sampled."""
        ...


class LocalSampler:
    """Samples from the policy's whole distribution, in this process, with a key-value cache.

    Args:
        pad_id: any token id; fills padded columns, which are masked.
        end_ids: token ids that end a response.
        rows_per_pass: prompts generated at once.
    """

    def __init__(self, pad_id: int, end_ids: frozenset[int], rows_per_pass: int) -> None:
        self.pad_id = pad_id
        self.end_ids = end_ids
        self.rows_per_pass = rows_per_pass

    def generate(
        self,
        policy: LanguageModel,
        prompt_ids: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
    ) -> list[list[int]]:
        """See `Sampler`. `temperature` 0 takes the likeliest token."""
        responses: list[list[int]] = []
        for rows in split_rows(len(prompt_ids), self.rows_per_pass):
            prompts = [prompt_ids[row] for row in rows.tolist()]
            tokens = self._decode(policy, prompts, max_new_tokens, temperature, generator)
            responses += [cut_after_end(row, self.end_ids) for row in tokens.tolist()]
        return responses

    @torch.no_grad()
    def _decode(
        self,
        policy: LanguageModel,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
    ) -> Int[Tensor, "B T"]:
        device = policy.device
        input_ids, prompt_mask = pad_prompts(prompts, self.pad_id, device)
        attention_mask = prompt_mask.long()
        positions = position_ids(attention_mask)
        end_ids = torch.tensor(sorted(self.end_ids), device=device)
        cache = DynamicCache(config=policy.model.config)
        finished = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        tokens: list[Tensor] = []
        while True:
            hidden = policy.hidden_states(input_ids, attention_mask, positions, cache)[:, -1]
            token = sample_tokens(policy.logits(hidden, temperature or 1.0), temperature, generator)
            tokens.append(token)
            finished |= torch.isin(token, end_ids)
            if len(tokens) == max_new_tokens or bool(finished.all()):
                return torch.stack(tokens, dim=1)
            input_ids = token[:, None]
            positions = positions[:, -1:] + 1
            attention_mask = torch.cat([attention_mask, torch.ones_like(input_ids)], dim=1)


def sample_tokens(
    logits: Float[Tensor, "B V"], temperature: float, generator: torch.Generator
) -> Int[Tensor, " B"]:
    """Draw a token per row by inverting the distribution function; the likeliest at temperature 0.

    The first token whose cumulative probability exceeds u ~ U[0, 1) is the sample: one pass over
    the vocabulary, many times faster than `torch.multinomial` on a CPU.
    """
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = logits.softmax(-1).cumsum(-1)
    uniform = torch.rand(len(logits), 1, generator=generator, device=generator.device)
    # Rounding may leave the last sum a little off 1; a draw below it always has a token.
    threshold = uniform.to(logits.device) * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
    return tokens.clamp(max=logits.shape[-1] - 1)


def cut_after_end(tokens: list[int], end_ids: frozenset[int]) -> list[int]:
    """Tokens up to and including the first that ends a response.

    >>> cut_after_end([5, 2, 7, 2], frozenset({2}))
    [5, 2]
    """
    for index, token in enumerate(tokens):
        if token in end_ids:
            return tokens[: index + 1]
    return tokens
