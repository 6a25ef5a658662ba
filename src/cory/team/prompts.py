"""Encodes queries and earlier answers as prompt token ids, and decodes answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from cory.config import CORYConfig
from cory.generation.stops import StopStrings
from cory.team.chats import ChatRenderer, special_tokens
from cory.team.messages import Query, is_chat
from cory.team.roles import Answer, Templates

ANCHOR = "\n"
"""Text that no tokenizer joins with what follows; see `PromptEncoder`."""
PROBES = ("a", "0", "?", "\n")
"""Short texts; any tokenizer has a token for one of them."""


@dataclass(eq=False)
class PromptEncoder:
    """Turns a query and the answers given so far into prompt token ids, and answers into text.

    Text runs are tokenised whole; an answer is inserted as the token ids that were sampled, never
    decoded and encoded again, without its end-of-sequence token. What the tokenizer itself puts
    before a text, start tokens or sentencepiece's space, comes once, at the front: a run after an
    answer is tokenised behind an anchor, whose ids are cut off.

    Args:
        tokenizer: of the policy.
        templates: of the prompts.
        end_ids: token ids that end an answer.
        stop_strings: texts that end an answer.
        template_options: variables of the chat template, see `chat_template_kwargs`.
    """

    tokenizer: PreTrainedTokenizerBase
    templates: Templates
    end_ids: frozenset[int]
    stop_strings: tuple[str, ...] = ()
    template_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chats = ChatRenderer(self.tokenizer, self.templates, self.template_options)
        self.stops = StopStrings(self.stop_strings, self.decode)
        self.start_ids = _start_ids(self.tokenizer)
        self.anchor_ids = self._token_ids(ANCHOR)
        self.adds_space = self._token_ids(ANCHOR + "a") != self.anchor_ids + self._token_ids("a")

    def encode(self, query: Query, answers: Sequence[list[int]]) -> list[int]:
        """Prompt ids of the next speaker, who sees `answers` (token ids, in order of speaking).

        Raises:
            ValueError: there would be no token at all, or a chat cannot be rendered
                (`ChatRenderer.compose`).
        """
        ids: list[int] = []
        for piece in self._compose(query, len(answers)):
            if isinstance(piece, Answer):
                ids += [token for token in answers[piece.role_index] if token not in self.end_ids]
            else:
                ids += self._continue(piece) if ids else self._token_ids(piece)
        # A chat template writes such tokens itself.
        if not is_chat(query) and ids[: len(self.start_ids)] != self.start_ids:
            ids = self.start_ids + ids
        if not ids:
            raise ValueError(
                f"the query {query!r} gives an empty prompt: a model needs at least one token to "
                "continue from. Drop empty queries or use a query_template with some text"
            )
        return ids

    def upper_bound(self, query: Query, answers: Sequence[list[int]]) -> int:
        """A number of tokens that `encode` does not exceed, without tokenising.

        A token covers at least a byte; twice the bytes leave room for what a tokenizer's
        normalisation may add.
        """
        pieces = self._compose(query, len(answers))
        texts = sum(2 * len(piece.encode()) for piece in pieces if isinstance(piece, str))
        shown = sum(len(answers[piece.role_index]) for piece in pieces if isinstance(piece, Answer))
        return len(self.start_ids) + texts + shown

    def decode(self, answers: Sequence[Sequence[int]]) -> list[str]:
        """Texts of answers without special tokens, as they go on from their prompts.

        Sentencepiece takes the space off the front of every text, so the anchor goes first.
        """
        texts = self._texts([[*self.anchor_ids, *answer] for answer in answers])
        [anchor] = self._texts([self.anchor_ids])
        return [text.removeprefix(anchor) for text in texts]

    def have_ended(self, answers: Sequence[Sequence[int]]) -> list[bool]:
        """Whether each answer came to its end; else it was cut off at the maximum length."""
        stopped = self.stops.are_in(answers) if self.stop_strings else [False] * len(answers)
        return [
            is_stopped or answer[-1] in self.end_ids
            for answer, is_stopped in zip(answers, stopped, strict=True)
        ]

    def _texts(self, rows: list[list[int]]) -> list[str]:
        return self.tokenizer.batch_decode(
            rows, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _compose(self, query: Query, num_answers: int) -> list[str | Answer]:
        if isinstance(query, str):
            return self.templates.compose(query, num_answers)
        return self.chats.compose(query, num_answers)

    def _token_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _continue(self, text: str) -> list[int]:
        if self.adds_space:
            ids = self._token_ids(ANCHOR + text)
            if ids[: len(self.anchor_ids)] == self.anchor_ids:
                return ids[len(self.anchor_ids) :]
        return self._token_ids(text)


def make_encoder(
    args: CORYConfig, tokenizer: PreTrainedTokenizerBase, generation_config: Any
) -> PromptEncoder:
    """The encoder that the settings ask for.

    Raises:
        ValueError: `stop_strings` or `chat_template_kwargs` do not fit the tokenizer.
    """
    stops = tuple(args.stop_strings or ())
    return PromptEncoder(
        tokenizer,
        Templates(args.query_template, args.observer_template, args.reference_template),
        end_token_ids(tokenizer, generation_config, stops),
        stops,
        args.chat_template_kwargs or {},
    )


def _start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text: [BOS] for Llama, nothing for GPT-2."""
    for probe in PROBES:
        plain = list(tokenizer(probe, add_special_tokens=False)["input_ids"])
        whole = list(tokenizer(probe)["input_ids"])
        for start in range(len(whole) - len(plain) + 1):
            if plain and whole[start : start + len(plain)] == plain:
                return whole[:start]
    # No text stays as it is behind them: what marks the beginning is among the special tokens.
    ids = list(tokenizer("")["input_ids"])
    return list(takewhile(lambda token: token in tokenizer.all_special_ids, ids))


def end_token_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: Any, stop_strings: Sequence[str] = ()
) -> frozenset[int]:
    """Every token id that ends an answer.

    Those of the tokenizer and of the generation config, and of stop strings that are special
    tokens: they are no part of an answer's text.

    Raises:
        ValueError: a stop string holds a special token and more, or an id is no integer.
    """
    configured = getattr(generation_config, "eos_token_id", None)
    ids = [*configured] if isinstance(configured, (list, tuple)) else [configured]
    if wrong := [token for token in ids if not (token is None or type(token) is int)]:
        raise ValueError(
            f"the generation config of the model has eos_token_id={configured!r}, where "
            f"{wrong[0]!r} is no token id: write an integer, or a list of integers"
        )
    special = special_tokens(tokenizer)
    for stop in stop_strings:
        if stop not in special and (found := [token for token in special if token in stop]):
            raise ValueError(
                f"stop_strings has {stop!r}, which holds the special token {found[0]!r}: no text "
                f"of an answer has it, so write {found[0]!r} alone"
            )
    ids = [*ids, tokenizer.eos_token_id, *map(special.get, stop_strings)]
    return frozenset(int(i) for i in ids if i is not None)
