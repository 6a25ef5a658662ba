"""Token ids to tensors: the only place that pads or shifts.

A sequence is a prompt and its response, one after the other from column 0 on. What is behind its
end is padding, which no real token of a causal model sees, so no attention mask is needed:

    prompts [[5], [6, 7]], responses [[8, 9], [3]], pad id 0
    input_ids      [[5, 8, 9],      response_mask [[True, True],
                    [6, 7, 3]]                     [True, False]]

Legend: B sequences, S columns of the longest sequence, T response columns. Padding is known by
lengths and masks alone: the padding id may be a real token (GPT-2 pads with its end-of-sequence
token).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Num
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

PADDING = 0
"""Fills padded columns. They are masked, so any number would do."""


@dataclass(frozen=True)
class Batch:
    """Prompts and responses of B sequences.

    `response_mask` is True on response tokens, up to and including the end-of-sequence token; its
    column t belongs to the response's token t.
    """

    input_ids: Int[Tensor, "B S"]
    prompt_lengths: Int[Tensor, " B"]
    response_mask: Bool[Tensor, "B T"]

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """Tokens of each sequence."""
        return self.prompt_lengths + self.response_mask.sum(1)

    @property
    def num_tokens(self) -> int:
        """Response tokens of all sequences together."""
        return int(self.response_mask.sum())

    @property
    def response_tokens(self) -> Int[Tensor, " N"]:
        """The N response tokens of all sequences, one sequence after the other."""
        return self.input_ids[:, 1:][self.predicts_response]

    @property
    def predicts_response(self) -> Bool[Tensor, "B _"]:
        """True in the S − 1 columns whose next token is part of the response."""
        column = torch.arange(self.input_ids.shape[1] - 1, device=self.input_ids.device)
        first = self.prompt_lengths[:, None] - 1
        return (column >= first) & (column < self.lengths[:, None] - 1)

    def select(self, rows: Tensor) -> Batch:
        """Some sequences, without the columns that are padding in all of them."""
        prompt_lengths, response_mask = self.prompt_lengths[rows], self.response_mask[rows]
        response_lengths = response_mask.sum(1)
        return Batch(
            self.input_ids[rows, : int((prompt_lengths + response_lengths).max())],
            prompt_lengths,
            response_mask[:, : int(response_lengths.max())],
        )

    def split(self, max_rows: int | None, max_tokens: int) -> Iterator[Tensor]:
        """Row numbers of pieces in which little is padding, longest sequences first.

        Args:
            max_rows: sequences of a piece, at most; None: as many as `max_tokens` allows.
            max_tokens: columns × sequences of a piece, unless one sequence alone has more.
        """
        order = self.lengths.argsort(descending=True, stable=True)
        lengths = self.lengths[order].tolist()
        start = 0
        while start < len(lengths):
            size = max(1, max_tokens // lengths[start])
            size = size if max_rows is None else min(size, max_rows)
            yield order[start : start + size]
            start += size


def position_ids(attention_mask: Int[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    """Positions that count real tokens only, so that left padding does not shift a prompt."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


def padded(
    rows: Sequence[Sequence[float]], device: torch.device | str = "cpu", side: str = "right"
) -> Tensor:
    """Ragged rows as one tensor (B, longest row).

    >>> padded([[-1.0, -2.0], [-3.0]]).tolist()
    [[-1.0, -2.0], [-3.0, 0.0]]
    """
    tensors = [torch.tensor(row) for row in rows]
    return pad_sequence(tensors, True, padding_value=PADDING, padding_side=side).to(device)


def pad_left(
    token_ids: Sequence[Sequence[int]], device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, "B P"], Int[Tensor, "B P"]]:
    """Prompts that end in the same column, for decoding, and their attention mask."""
    real = [[1] * len(row) for row in token_ids]
    return padded(token_ids, device, side="left"), padded(real, device, side="left")


def make_batch(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
) -> Batch:
    """Pad ragged prompts and responses into one `Batch`.

    Raises:
        ValueError: a prompt or a response is empty.

    >>> batch = make_batch([[5], [6, 7]], [[8, 9], [3]])
    >>> batch.input_ids.tolist(), batch.response_mask.tolist()
    ([[5, 8, 9], [6, 7, 3]], [[True, True], [True, False]])
    """
    for name, rows in (("prompt", prompt_ids), ("response", response_ids)):
        if empty := [index for index, row in enumerate(rows) if not row]:
            raise ValueError(f"{name} {empty[0]} is empty: it must hold at least one token")
    sequences = [
        [*prompt, *response] for prompt, response in zip(prompt_ids, response_ids, strict=True)
    ]
    real = [[True] * len(row) for row in response_ids]
    return Batch(
        input_ids=padded(sequences, device),
        prompt_lengths=torch.tensor(list(map(len, prompt_ids)), device=device),
        response_mask=padded(real, device),
    )


def to_rows(
    flat: Num[Tensor, "N ..."], response_mask: Bool[Tensor, "B T"]
) -> Num[Tensor, "B T ..."]:
    """What belongs to the response tokens, laid out as (B, T) with zeros on padding."""
    rows = flat.new_zeros(*response_mask.shape, *flat.shape[1:])
    is_token = response_mask.view(*response_mask.shape, *[1] * (flat.ndim - 1))
    return rows.masked_scatter(is_token, flat)
