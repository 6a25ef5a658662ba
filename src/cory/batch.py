"""Token ids to tensors: the only place that pads or shifts.

A sequence is a prompt and its response. Prompts are padded on the left and responses on the right,
so that every response starts in the same column:

    prompts [[5], [6, 7]], responses [[8, 9], [3]], pad id 0
    input_ids      [[0, 5, 8, 9],      response_mask [[True, True],
                    [6, 7, 3, 0]]                     [True, False]]

Legend: B sequences, P prompt columns, T response columns, S = P + T. Padding is known by the masks
alone: the padding id may be a real token (GPT-2 pads with its end-of-sequence token).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Prompts and responses of B sequences.

    `response_mask` is True on response tokens, up to and including the end-of-sequence token.
    """

    input_ids: Int[Tensor, "B S"]
    prompt_mask: Bool[Tensor, "B P"]
    response_mask: Bool[Tensor, "B T"]

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def responses(self) -> Int[Tensor, "B T"]:
        return self.input_ids[:, self.prompt_mask.shape[1] :]

    @property
    def attention_mask(self) -> Int[Tensor, "B S"]:
        return torch.cat([self.prompt_mask, self.response_mask], dim=1).long()

    @property
    def num_tokens(self) -> int:
        """Response tokens in all sequences together."""
        return int(self.response_mask.sum())

    def select(self, rows: Tensor) -> Batch:
        """Some sequences, without the columns that are padding in all of them."""
        prompt_mask, response_mask = self.prompt_mask[rows], self.response_mask[rows]
        width = int(prompt_mask.sum(1).max())
        length = int(response_mask.sum(1).max())
        start = self.prompt_mask.shape[1] - width
        stop = self.prompt_mask.shape[1] + length
        return Batch(
            self.input_ids[rows][:, start:stop], prompt_mask[:, start:], response_mask[:, :length]
        )


def position_ids(attention_mask: Int[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    """Positions that count real tokens only, so that left padding does not shift a prompt."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


def pad_prompts(
    prompt_ids: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, "B P"], Bool[Tensor, "B P"]]:
    """Left-padded prompts and the mask of their real tokens."""
    width = max(map(len, prompt_ids))
    ids = [[pad_id] * (width - len(row)) + list(row) for row in prompt_ids]
    real = [[False] * (width - len(row)) + [True] * len(row) for row in prompt_ids]
    return torch.tensor(ids, device=device), torch.tensor(real, device=device)


def make_batch(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Batch:
    """Pad ragged prompts and responses into one `Batch`.

    Raises:
        ValueError: a prompt or a response is empty.

    >>> batch = make_batch([[5], [6, 7]], [[8, 9], [3]], pad_id=0)
    >>> batch.input_ids.tolist(), batch.response_mask.tolist()
    ([[0, 5, 8, 9], [6, 7, 3, 0]], [[True, True], [True, False]])
    """
    for name, rows in (("prompt", prompt_ids), ("response", response_ids)):
        if empty := [index for index, row in enumerate(rows) if not row]:
            raise ValueError(f"{name} {empty[0]} is empty: it must hold at least one token")
    prompts, prompt_mask = pad_prompts(prompt_ids, pad_id, device)
    length = max(map(len, response_ids))
    responses = [list(row) + [pad_id] * (length - len(row)) for row in response_ids]
    real = [[True] * len(row) + [False] * (length - len(row)) for row in response_ids]
    return Batch(
        input_ids=torch.cat([prompts, torch.tensor(responses, device=device)], dim=1),
        prompt_mask=prompt_mask,
        response_mask=torch.tensor(real, device=device),
    )


def to_rows(flat: Float[Tensor, " N"], response_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """One number per response token, laid out as (B, T) with zeros on padding."""
    rows = flat.new_zeros(response_mask.shape)
    return rows.masked_scatter(response_mask, flat)


def split_rows(num_rows: int, size: int | None) -> Iterator[Tensor]:
    """Consecutive row numbers in pieces of at most `size` (None: one piece)."""
    yield from torch.arange(num_rows).split(size or num_rows)
