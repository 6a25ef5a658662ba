"""Decoding token by token: what is remembered of the tokens so far.

Legend: B sequences, P prompt columns, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache, DynamicLayer

from cory.batch import pad_left, position_ids
from cory.policy import LanguageModel


class Decoding:
    """Sequences in the middle of being decoded, all of one length.

    `hidden` (B, D) is the last hidden state of each, from which its next token is drawn.

    Args:
        policy: decodes.
        prompts: token ids; padded on the left, so that all end in the same column.
        pad_id: any token id; fills padded columns, which are masked.
        room: tokens that will be appended to each prompt, at most.
    """

    def __init__(
        self, policy: LanguageModel, prompts: Sequence[Sequence[int]], pad_id: int, room: int
    ) -> None:
        self.policy = policy
        self.cache = roomy_cache(policy.model.config, room)
        input_ids, self.attention_mask = pad_left(prompts, pad_id, policy.device)
        self.positions = position_ids(self.attention_mask)[:, -1:]
        self.hidden: Float[Tensor, "B D"] = policy.hidden_states(
            input_ids, self.attention_mask, position_ids(self.attention_mask), self.cache
        )[:, -1]

    def keep(self, rows: Int[Tensor, " B"]) -> None:
        """Go on with these sequences only; one may be named several times."""
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
            self.key_buffer = _with_room(key_states, self.room)
            self.value_buffer = _with_room(value_states, self.room)
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


def roomy_cache(config: PreTrainedConfig, room: int) -> DynamicCache:
    """A cache for a prompt and `room` tokens after it.

    Layers that are not plain attention (a sliding window, a recurrent state) keep their own kind.
    """
    cache = DynamicCache(config=config)
    cache.layers = [
        RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def _with_room(states: Tensor, room: int) -> Tensor:
    *batch, length, width = states.shape
    # A CPU attends in float32 (see `layers.use_float32_attention`): convert once, not per token.
    dtype = torch.float32 if states.device.type == "cpu" else states.dtype
    return torch.empty(*batch, length + room, width, dtype=dtype, device=states.device)
