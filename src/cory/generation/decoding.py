"""Decoding token by token, until everybody has finished.

Legend: B sequences, P prompt columns, T response columns, D hidden size, E ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from cory.generation.stops import NO_STOPS, StopStrings
from cory.models.batch import pad_left, position_ids
from cory.models.policy import LanguageModel

STEPS_BETWEEN_LOOKS = {"cpu": 1}
"""Tokens between two looks at who has finished."""
MANY_STEPS_BETWEEN_LOOKS = 16
"""The same for devices not named above, which a look makes wait."""
RUNNING_SHARE = 7 / 8
"""Once no more than this share of the rows is running, the others are taken out."""

Draw = Callable[[Float[Tensor, "B D"], Float[Tensor, " B"]], Int[Tensor, " B"]]
"""Tokens from hidden states and uniform random numbers."""


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, as views of buffers with room for what is to come.

    The layer of transformers copies all it holds at every token.

    Args:
        room: columns that will be appended after the first call, which brings the prompt.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if not start:
            self.lazy_initialization(key_states, value_states)
            self.key_buffer = self._with_room(key_states)
            self.value_buffer = self._with_room(value_states)
        self.key_buffer[..., start:stop, :] = key_states
        self.value_buffer[..., start:stop, :] = value_states
        return self._look_at(stop)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.key_buffer = self.key_buffer.index_select(0, beam_idx)
        self.value_buffer = self.value_buffer.index_select(0, beam_idx)
        self._look_at(self.get_seq_length())

    def _look_at(self, length: int) -> tuple[Tensor, Tensor]:
        self.keys = self.key_buffer[..., :length, :]
        self.values = self.value_buffer[..., :length, :]
        return self.keys, self.values

    def _with_room(self, states: Tensor) -> Tensor:
        *batch, length, width = states.shape
        return states.new_empty(*batch, length + self.room, width)


class Decoding:
    """Sequences in the middle of being decoded, all of one length.

    `hidden` (B, D) is the last hidden state of each, from which its next token is drawn.

    Args:
        policy: decodes.
        prompts: token ids; padded on the left, so that all end in the same column.
        room: tokens that will be appended to each prompt, at most.
    """

    layer_type: type[RoomyLayer] = RoomyLayer

    def __init__(self, policy: LanguageModel, prompts: Sequence[Sequence[int]], room: int) -> None:
        self.policy = policy
        config = policy.model.config
        self.cache = DynamicCache(config=config)
        # Others than plain attention (a sliding window, a recurrent state) keep their own kind.
        self.cache.layers = [
            self.layer_type(room) if type(layer) is DynamicLayer else layer
            for layer in self.cache.layers
        ]
        input_ids, self.attention_mask = pad_left(prompts, policy.device)
        positions = position_ids(self.attention_mask)
        self.positions = positions[:, -1:]
        self.hidden: Float[Tensor, "B D"] = policy.hidden_states(
            input_ids, self.attention_mask, positions, self.cache
        )[:, -1]

    def keep(self, rows: Int[Tensor, " B"]) -> None:
        """Go on with these sequences only; one may be named several times."""
        self.policy.select_rows(rows)
        for layer in self.cache.layers:
            layer.reorder_cache(cast(torch.LongTensor, rows))
        self.attention_mask = self.attention_mask[rows]
        self.positions = self.positions[rows]
        self.hidden = self.hidden[rows]

    def append(self, tokens: Int[Tensor, " B"]) -> None:
        """Add a token to each sequence."""
        input_ids = tokens[:, None]
        self.attention_mask = torch.cat([self.attention_mask, torch.ones_like(input_ids)], dim=1)
        self.positions = self.positions + 1
        self.hidden = self.policy.hidden_states(
            input_ids, self.attention_mask, self.positions, self.cache
        )[:, -1]

    def answer(
        self,
        uniform: Float[Tensor, "B T"],
        end_ids: Int[Tensor, " E"],
        draw: Draw,
        stops: StopStrings = NO_STOPS,
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T D"]]:
        """Decode until all have finished; who has leaves the batch.

        Args:
            uniform: a random number for every token of every answer.
            end_ids: tokens that end an answer.
            draw: chooses tokens.
            stops: texts that end an answer.

        Returns:
            tokens, and the hidden states from which they were drawn; 0 where nothing was drawn.
        """
        tokens = torch.zeros_like(uniform, dtype=torch.long)
        hidden = self.hidden.new_zeros(*uniform.shape, self.hidden.shape[1])
        rows = torch.arange(len(uniform), device=uniform.device)
        is_running = torch.ones_like(rows, dtype=torch.bool)
        look_every = steps_between_looks(uniform.device)
        for column in range(uniform.shape[1]):
            if column:
                self.append(tokens[rows, column - 1])
            token = draw(self.hidden, uniform[rows, column])
            tokens[rows, column], hidden[rows, column] = token, self.hidden
            is_running &= ~torch.isin(token, end_ids)
            if column % look_every:
                continue
            stops.keep_running(is_running, tokens[rows, : column + 1])
            kept = is_running.nonzero().squeeze(1)
            if not len(kept):
                break
            if len(kept) <= RUNNING_SHARE * len(rows):
                self.keep(kept)
                rows, is_running = rows[kept], is_running[kept]
        return tokens, hidden


def steps_between_looks(device: torch.device) -> int:
    """Tokens between two looks at who has finished."""
    return STEPS_BETWEEN_LOOKS.get(device.type, MANY_STEPS_BETWEEN_LOOKS)
