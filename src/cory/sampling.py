"""Token generation: the only place that calls a generation backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cory.decoding import Decoding
from cory.memory import PassSize
from cory.policy import LanguageModel
from cory.processes import ALONE, World
from cory.sharding import gathered

STEPS_BETWEEN_LOOKS = {"cpu": 1}
"""Tokens between two looks at who has finished."""
MANY_STEPS_BETWEEN_LOOKS = 16
"""The same for devices not named above, which a look makes wait."""
RUNNING_SHARE = 7 / 8
"""Once no more than this share of the rows is running, the others are taken out."""


class Answers(NamedTuple):
    """What was sampled.

    `token_ids` has one response per prompt, with the end-of-sequence token if it was sampled.
    `hidden` are the last hidden states from which each token was drawn, T the longest response;
    undefined behind a response's end, None where a backend does not give them. They are those of
    this process's rows (`processes.World.part`). `logprobs` are those that another engine drew the
    tokens with, 0 behind a response's end; None where this process did.
    """

    token_ids: list[list[int]]
    hidden: Float[Tensor, "b T D"] | None
    logprobs: Float[Tensor, "B T"] | None = None


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
    ) -> Answers:
        """One response per prompt, of at most `max_new_tokens`."""
        ...


class LocalSampler:
    """Samples from the policy's whole distribution, in this process, with a key-value cache.

    Which prompts are decoded together, or by which process, changes no answer: every token of every
    prompt has its own random number.

    Args:
        pad_id: any token id; fills padded columns, which are masked.
        end_ids: token ids that end a response.
        rows_per_pass: prompts decoded at once.
        world: who decodes which prompts; all get all tokens.
    """

    def __init__(
        self, pad_id: int, end_ids: frozenset[int], rows_per_pass: int, world: World = ALONE
    ) -> None:
        self.pad_id = pad_id
        self.end_ids = end_ids
        self.rows_per_pass = rows_per_pass
        self.world = world
        self.passes = PassSize("sampling")

    @torch.no_grad()
    def generate(
        self,
        policy: LanguageModel,
        prompt_ids: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
    ) -> Answers:
        """See `Sampler`. `temperature` 0 takes the likeliest token."""
        num_rows = len(prompt_ids)
        uniform = torch.rand(
            num_rows, max_new_tokens, generator=generator, device=generator.device
        ).to(policy.device)
        own = self.world.part(num_rows)
        with gathered(policy):
            decoded = self.passes.attempt(
                lambda: [
                    self._decode(
                        policy,
                        prompt_ids[rows.start : rows.stop],
                        uniform[rows.start : rows.stop],
                        temperature,
                    )
                    for rows in self.passes.noted(self._split(own))
                ],
                self.world,
            )
        tokens, hidden = zip(*decoded, strict=True)
        token_ids = [cut_after_end(row, self.end_ids) for row in torch.cat(tokens).tolist()]
        longest = max(map(len, token_ids))
        return Answers(self.world.join(token_ids, num_rows), torch.cat(hidden)[:, :longest])

    def _split(self, rows: slice) -> Iterator[range]:
        size = self.passes.at_most(self.rows_per_pass) or rows.stop
        starts = range(rows.start, rows.stop, size)
        return (range(start, min(start + size, rows.stop)) for start in starts)

    def _decode(
        self,
        policy: LanguageModel,
        prompts: Sequence[Sequence[int]],
        uniform: Float[Tensor, "B T"],
        temperature: float,
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T D"]]:
        """Tokens, whatever stands behind an end, and the hidden states they were drawn from."""
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        decoding = Decoding(policy, distinct, self.pad_id, room=uniform.shape[1])
        if len(distinct) < len(prompts):
            place_of = {prompt: place for place, prompt in enumerate(distinct)}
            places = [place_of[tuple(prompt)] for prompt in prompts]
            decoding.keep(torch.tensor(places, device=policy.device))

        tokens = torch.full_like(uniform, self.pad_id, dtype=torch.long)
        hidden = decoding.hidden.new_zeros(*uniform.shape, decoding.hidden.shape[1])
        end_ids = torch.tensor(sorted(self.end_ids), device=policy.device)
        rows = torch.arange(len(prompts), device=policy.device)
        is_running = torch.ones_like(rows, dtype=torch.bool)
        look_every = STEPS_BETWEEN_LOOKS.get(policy.device.type, MANY_STEPS_BETWEEN_LOOKS)
        for column in range(uniform.shape[1]):
            if column:
                decoding.append(tokens[rows, column - 1])
            logits = policy.logits(decoding.hidden, temperature or 1.0)
            token = sample_tokens(logits, temperature, uniform[rows, column])
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


def _pieces(rows: slice, size: int) -> Iterator[slice]:
    starts = range(rows.start, rows.stop, size)
    return (slice(start, min(start + size, rows.stop)) for start in starts)


def sample_tokens(
    logits: Float[Tensor, "B V"], temperature: float, uniform: Float[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """Draw a token per row by inverting the distribution function; the likeliest at temperature 0.

    The first token whose cumulative probability exceeds u ~ U[0, 1) is the sample: one pass over
    the vocabulary, many times faster than `torch.multinomial` on a CPU.
    """
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = logits.softmax(-1).cumsum(-1)
    # Rounding may leave the last sum a little off 1; a draw below it always has a token.
    threshold = uniform[:, None] * cumulative[:, -1:]
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
