"""Token generation: the only place that calls a generation backend."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cory.algorithm.filtering import WHOLE_DISTRIBUTION, TokenFilter
from cory.distributed.fsdp import unsharded
from cory.distributed.memory import PassSize
from cory.distributed.world import SINGLE, World
from cory.generation.cuda_graph import FixedDecoding, has_fixed_shapes
from cory.generation.decoding import Decoding
from cory.generation.mixed_adapters import MixedAdapters, can_be_mixed
from cory.generation.stops import NO_STOPS, StopStrings
from cory.models.policy import LanguageModel, Policy

Question = tuple[int, tuple[int, ...]]
"""A prompt, and by place in the team who is to answer it: each reads a prompt for itself."""


class Answers(NamedTuple):
    """What was sampled.

    `token_ids` has one response per prompt, with the end-of-sequence token, or those of the stop
    string, if it was sampled.
    `hidden` are the last hidden states from which each token was drawn, T the longest response;
    undefined behind a response's end, None where a backend does not give them. They are those of
    this process's rows (`World.part`). `logprobs` are those that another engine drew the
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
    """Samples from the policy's distribution, in this process, with a key-value cache.

    Which prompts are decoded together, or by which process, changes no answer: every token of every
    prompt has its own random number.

    Args:
        end_ids: token ids that end a response.
        rows_per_pass: prompts decoded at once.
        world: who decodes which prompts; all get all tokens.
        stops: texts that end a response.
        token_filter: which tokens may be drawn.
    """

    def __init__(
        self,
        end_ids: frozenset[int],
        rows_per_pass: int,
        world: World = SINGLE,
        stops: StopStrings = NO_STOPS,
        token_filter: TokenFilter = WHOLE_DISTRIBUTION,
    ) -> None:
        self.end_ids = end_ids
        self.rows_per_pass = rows_per_pass
        self.world = world
        self.stops = stops
        self.token_filter = token_filter
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
        uniform = _uniform(generator, len(prompt_ids), max_new_tokens, policy.device)
        questions = [(0, tuple(prompt)) for prompt in prompt_ids]
        return self._answer(policy, questions, uniform, temperature)

    @torch.no_grad()
    def generate_each(
        self,
        policies: Sequence[Policy],
        prompt_ids: Sequence[Sequence[Sequence[int]]],
        max_new_tokens: int,
        temperature: float,
        generators: Sequence[torch.Generator],
    ) -> list[Answers]:
        """What `generate` gives for each policy, in one batch; see `can_be_mixed`."""
        mixed = MixedAdapters(policies)
        sizes = list(map(len, prompt_ids))
        uniform = [
            _uniform(generator, size, max_new_tokens, mixed.device)
            for generator, size in zip(generators, sizes, strict=True)
        ]
        questions = [
            (agent, tuple(prompt)) for agent, prompts in enumerate(prompt_ids) for prompt in prompts
        ]
        together = self._answer(mixed, questions, torch.cat(uniform), temperature)
        assert together.hidden is not None, "this sampler keeps them"
        return [
            _shortened(together.token_ids[start:stop], together.hidden[start:stop])
            for start, stop in pairwise(accumulate(sizes, initial=0))
        ]

    def _answer(
        self,
        policy: LanguageModel,
        questions: Sequence[Question],
        uniform: Float[Tensor, "B T"],
        temperature: float,
    ) -> Answers:
        """One response per question, a pass after the other."""
        part = self.world.part(len(questions))
        own = questions[part]

        def attempt() -> list[tuple[Tensor, Tensor]]:
            size = self.passes.at_most(self.rows_per_pass) or len(own)
            starts = range(0, len(own), size)
            pieces = self.passes.noted(own[start : start + size] for start in starts)
            return [
                self._decode(policy, piece, numbers, temperature)
                for piece, numbers in zip(pieces, uniform[part].split(size), strict=True)
            ]

        with unsharded(policy):
            tokens, hidden = zip(*self.passes.attempt(attempt, self.world), strict=True)
        token_ids = cut_after_ends(torch.cat(tokens).tolist(), self.end_ids, self.stops)
        found = _shortened(token_ids, torch.cat(hidden))
        return found._replace(token_ids=self.world.join(token_ids, len(questions)))

    def _decode(
        self,
        policy: LanguageModel,
        questions: Sequence[Question],
        uniform: Float[Tensor, "B T"],
        temperature: float,
    ) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T D"]]:
        """Tokens, whatever stands behind an end, and the hidden states they were drawn from.

        Each agent reads every distinct prompt of its own once.
        """

        def draw(hidden: Tensor, uniform: Tensor) -> Tensor:
            logits = self.token_filter.applied(policy.logits(hidden, temperature or 1.0))
            return sample_tokens(logits, temperature, uniform)

        kind = FixedDecoding if has_fixed_shapes(policy) else Decoding
        places = {question: place for place, question in enumerate(dict.fromkeys(questions))}
        if isinstance(policy, MixedAdapters):
            policy.set_rows([agent for agent, _ in places])
        end_ids = torch.tensor(sorted(self.end_ids), dtype=torch.long, device=policy.device)
        # Within one context, weights are converted to the number format of products only once.
        with policy.precision(), policy.sampling():
            decoding = kind(policy, [prompt for _, prompt in places], uniform.shape[1])
            if len(places) < len(questions):
                rows = [places[question] for question in questions]
                decoding.keep(torch.tensor(rows, device=policy.device))
            return decoding.answer(uniform, end_ids, draw, self.stops)


def answer_each(
    sampler: Sampler,
    policies: Sequence[Policy],
    prompt_ids: Sequence[Sequence[Sequence[int]]],
    max_new_tokens: int,
    temperature: float,
    generators: Sequence[torch.Generator],
) -> list[Answers]:
    """Each policy's answers to its own prompts, where no policy needs another one's answers."""
    # Where processes share the rows, each keeps the hidden states of its part of each batch.
    if isinstance(sampler, LocalSampler) and sampler.world.size == 1 and can_be_mixed(policies):
        return sampler.generate_each(policies, prompt_ids, max_new_tokens, temperature, generators)
    return [
        sampler.generate(policy, prompts, max_new_tokens, temperature, generator)
        for policy, prompts, generator in zip(policies, prompt_ids, generators, strict=True)
    ]


def _uniform(
    generator: torch.Generator, num_rows: int, length: int, device: torch.device
) -> Float[Tensor, "B T"]:
    """A random number for every token of every answer."""
    numbers = torch.rand(num_rows, length, generator=generator, device=generator.device)
    return numbers.to(device)


def _shortened(token_ids: list[list[int]], hidden: Float[Tensor, "B T D"]) -> Answers:
    return Answers(token_ids, hidden[:, : max(map(len, token_ids))])


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


def cut_after_ends(
    rows: Sequence[list[int]], end_ids: frozenset[int], stops: StopStrings
) -> list[list[int]]:
    """Responses up to and including the token that ends each, by itself or by its text."""
    return stops.cut([cut_after_end(row, end_ids) for row in rows])


def cut_after_end(tokens: list[int], end_ids: frozenset[int]) -> list[int]:
    """Tokens up to and including the first that ends a response.

    >>> cut_after_end([5, 2, 7, 2], frozenset({2}))
    [5, 2]
    """
    for index, token in enumerate(tokens):
        if token in end_ids:
            return tokens[: index + 1]
    return tokens
