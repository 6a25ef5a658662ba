"""From prompts that were read to answers, token by token, until everybody has finished.

Legend: B sequences, T response columns, D hidden size, E ends.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cory.generation.cuda_graph import Draw, FixedAnswers, FixedDecoding, Replayed
from cory.generation.decoding import Decoding

STEPS_BETWEEN_LOOKS = {"cpu": 1}
"""Tokens between two looks at who has finished."""
MANY_STEPS_BETWEEN_LOOKS = 16
"""The same for devices not named above, which a look makes wait."""
RUNNING_SHARE = 7 / 8
"""Once no more than this share of the rows is running, the others are taken out."""


def answer_and_leave(
    decoding: Decoding, uniform: Float[Tensor, "B T"], end_ids: Int[Tensor, " E"], draw: Draw
) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T D"]]:
    """Decode until all have finished; who has leaves the batch."""
    tokens = torch.zeros_like(uniform, dtype=torch.long)
    hidden = decoding.hidden.new_zeros(*uniform.shape, decoding.hidden.shape[1])
    rows = torch.arange(len(uniform), device=uniform.device)
    is_running = torch.ones_like(rows, dtype=torch.bool)
    look_every = _steps_between_looks(uniform.device)
    for column in range(uniform.shape[1]):
        if column:
            decoding.append(tokens[rows, column - 1])
        token = draw(decoding.hidden, uniform[rows, column])
        tokens[rows, column], hidden[rows, column] = token, decoding.hidden
        is_running &= ~torch.isin(token, end_ids)
        if column % look_every:
            continue
        kept = is_running.nonzero().squeeze(1)
        if not len(kept):
            break
        if len(kept) <= RUNNING_SHARE * len(rows):
            decoding.keep(kept)
            rows, is_running = rows[kept], is_running[kept]
    return tokens, hidden


def answer_together(
    decoding: FixedDecoding, uniform: Float[Tensor, "B T"], end_ids: Int[Tensor, " E"], draw: Draw
) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T D"]]:
    """Decode until all have finished; nobody leaves the batch before."""
    length = uniform.shape[1]
    decoding.fix(length)
    answers = FixedAnswers(decoding, uniform, end_ids, draw)
    advance = Replayed(answers.advance, uniform.device)
    look_every = _steps_between_looks(uniform.device)
    for column in range(1, length):
        if column % look_every == 0 and not answers.is_running.any():
            break
        advance()
    return answers.tokens, answers.hidden


def _steps_between_looks(device: torch.device) -> int:
    return STEPS_BETWEEN_LOOKS.get(device.type, MANY_STEPS_BETWEEN_LOOKS)
