"""Decoding in tensors of fixed shape and place: a GPU can replay a token's work as one graph.

A small batch decodes faster than Python can name the operations: on a GPU the time of a token is
that of its some hundred launches. A CUDA graph launches all of them at once, provided that nothing
changes its shape or waits for a value on the way: keys and values lie in buffers with room for the
whole answer, sequences that have finished stay in the batch, and a mask says what is real.

Legend: B sequences, P prompt columns, T response columns, S = P + T, D hidden size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from cory.generation.decoding import Decoding, Draw, RoomyLayer, steps_between_looks
from cory.generation.stops import NO_STOPS, StopStrings
from cory.models.layers import EXACT_ATTENTION
from cory.models.policy import LanguageModel

FIXED_SHAPES_ON = {"cuda"}
"""Types of devices that decode in fixed shapes; others drop sequences as they finish."""
WARM_UPS = 2
"""Calls before a graph is recorded, in which libraries set themselves up."""
ROPES_THAT_LOOK = ("dynamic", "longrope")
"""Rotary embeddings that wait for the largest position, to choose their frequencies by it."""


def has_fixed_shapes(policy: LanguageModel) -> bool:
    """Whether a policy decodes in fixed shapes: where that pays, and its architecture can.

    It can where every layer is plain attention by torch, which takes a mask of all columns.
    """
    model = policy.model
    return policy.device.type in FIXED_SHAPES_ON and can_have_fixed_shapes(model)


def can_have_fixed_shapes(model: PreTrainedModel) -> bool:
    """Whether an architecture takes keys, values and mask of all columns, future ones included."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    layers = DynamicCache(config=model.config).layers
    return (
        model._can_compile_fullgraph
        and model.config._attn_implementation in ("sdpa", EXACT_ATTENTION)
        and all(type(layer) is DynamicLayer for layer in layers)
        and "position_ids" in inspect.signature(model.base_model.forward).parameters
        and not getattr(config, "alibi", False)
        and rope.get("rope_type") not in ROPES_THAT_LOOK
    )


class FixedLayer(RoomyLayer):
    """A layer that, once it knows in which column to write, shows its buffers as a whole.

    `column` (1,) is moved on by the owner, for all layers at once; None while the prompt is read.
    """

    column: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.column is None:
            return super().update(key_states, value_states, *args, **kwargs)
        for buffer, states in ((self.key_buffer, key_states), (self.value_buffer, value_states)):
            buffer.index_copy_(-2, self.column, states.to(buffer.dtype))
        return self.key_buffer, self.value_buffer

    def fix(self, column: Tensor) -> None:
        """Write there from now on; columns from there on are masked, but must be numbers."""
        start = self.get_seq_length()
        self.key_buffer[..., start:, :] = 0
        self.value_buffer[..., start:, :] = 0
        self.column = column


class FixedDecoding(Decoding):
    """Sequences that are decoded to the end together; see `Decoding`."""

    layer_type = FixedLayer

    def fix(self, room: int) -> None:
        """Give everything its final shape and place; `keep` is over.

        Args:
            room: tokens that will be appended.
        """
        num_rows, width = self.attention_mask.shape
        self.column = torch.tensor([width], device=self.hidden.device)
        self.is_real: Bool[Tensor, "B 1 1 S"] = torch.zeros(
            num_rows, 1, 1, width + room, dtype=torch.bool, device=self.hidden.device
        )
        self.is_real[:, 0, 0, :width] = self.attention_mask.bool()
        self.hidden, self.positions = self.hidden.clone(), self.positions.clone()
        for layer in self.cache.layers:
            assert isinstance(layer, FixedLayer), "see can_have_fixed_shapes"
            layer.fix(self.column)

    def append(self, tokens: Int[Tensor, " B"]) -> None:
        self.is_real.index_fill_(3, self.column, True)
        self.positions.add_(1)
        hidden = self.policy.hidden_states(
            tokens[:, None], self.is_real, self.positions, self.cache
        )
        self.hidden.copy_(hidden[:, -1])
        self.column.add_(1)

    def answer(
        self,
        uniform: Float[Tensor, "B T"],
        end_ids: Int[Tensor, " E"],
        draw: Draw,
        stops: StopStrings = NO_STOPS,
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T D"]]:
        """See `Decoding`; nobody leaves the batch before all have finished."""
        answers = FixedAnswers(self, uniform, end_ids, draw)
        advance = Replayed(answers.advance, uniform.device)
        look_every = steps_between_looks(uniform.device)
        for column in range(1, uniform.shape[1]):
            if column % look_every == 0:
                stops.keep_running(answers.is_running, answers.tokens[:, :column])
                if not answers.is_running.any():
                    break
            advance()
        return answers.tokens, answers.hidden


@dataclass(eq=False)
class FixedAnswers:
    """Answers that grow by a token per call of `advance`, without a look at any value.

    `tokens` (B, T) and `hidden` (B, T, D), from which they were drawn, are 0 where nothing was
    drawn yet; `is_running` (B,) is False for answers that have ended. See `Decoding.answer`.
    """

    decoding: FixedDecoding
    uniform: Float[Tensor, "B T"]
    end_ids: Int[Tensor, " E"]
    draw: Draw

    def __post_init__(self) -> None:
        decoding, uniform = self.decoding, self.uniform
        decoding.fix(uniform.shape[1])
        self.tokens: Int[Tensor, "B T"] = torch.zeros_like(uniform, dtype=torch.long)
        self.hidden: Float[Tensor, "B T D"] = decoding.hidden.new_zeros(
            *uniform.shape, decoding.hidden.shape[1]
        )
        self.is_running = torch.ones_like(uniform[:, 0], dtype=torch.bool)
        self.column = torch.zeros(1, dtype=torch.long, device=uniform.device)
        self.newest = torch.zeros_like(self.tokens[:, 0])
        self._choose()

    def advance(self) -> None:
        """Append the newest token and draw the next one."""
        self.decoding.append(self.newest)
        self._choose()

    def _choose(self) -> None:
        hidden, column = self.decoding.hidden, self.column
        self.newest.copy_(self.draw(hidden, self.uniform.index_select(1, column).squeeze(1)))
        self.tokens.index_copy_(1, column, self.newest[:, None])
        self.hidden.index_copy_(1, column, hidden[:, None])
        self.is_running.logical_and_(~torch.isin(self.newest, self.end_ids))
        column.add_(1)


class Replayed:
    """A function of tensors at fixed places, which a CUDA device replays as one graph.

    Other devices call the function itself. Everything that it makes and others read must be written
    into tensors that were there before.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self.function = function
        self.device = device
        self.num_calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self.device.type != "cuda":
            self.function()
        elif self.num_calls < WARM_UPS:
            # Beside the stream on which nothing may be recorded.
            here, beside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
            beside.wait_stream(here)
            with torch.cuda.stream(beside):
                self.function()
            here.wait_stream(beside)
        else:
            if self.graph is None:
                # The call is recorded, and not carried out meanwhile.
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.device(self.device), torch.cuda.graph(self.graph):
                    self.function()
            self.graph.replay()
        self.num_calls += 1
