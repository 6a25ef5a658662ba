"""Chat queries: their messages as plain text, rendered by the tokenizer's chat template.

A chat template is a program of whoever published the model. What it makes of the messages is
checked: a text or an answer that it leaves out would be missing from the prompt without a word.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from transformers import PreTrainedTokenizerBase

from cory.io.files import did_you_mean
from cory.team.messages import (
    Chat,
    called_functions,
    plain_messages,
    question_place,
    without_empty_end,
)
from cory.team.roles import Answer, Templates

logger = logging.getLogger(__name__)

OPEN, CLOSE = "\ue000", "\ue001"
"""Private-use characters around what stands for an answer while a chat template is rendered."""
SYSTEM_ROLES = ("system", "developer")
END_OF_THOUGHT = "</think>"
"""What an earlier turn of the assistant has before it is taken out by some chat templates."""


MAY_CONTROL = frozenset({"system", "developer", "assistant"})
"""Roles that may write special tokens; those of users and of tools are text."""


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The ids of the special tokens, by their text."""
    return {
        str(token): token_id
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special
    }


class ChatRenderer:
    """Writes chats as the tokenizer's chat template does, with slots for earlier answers.

    Args:
        tokenizer: with a chat template, if there are chats.
        templates: applied to the question, before the chat template.
        options: further variables of the chat template, such as `enable_thinking`.

    Raises:
        ValueError: the chat template reads no such variable.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        templates: Templates,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.templates = templates
        self.options = dict(options or {})
        self.shown: set[tuple[tuple[str, bool], ...]] = set()
        inside = [
            f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})"
            for token in special_tokens(tokenizer)
            if len(token) > 1
        ]
        self.inside = re.compile("|".join(inside)) if inside else None
        """The places behind the first character of a special token."""
        words = set(re.findall(r"[^\W\d]\w*", _template_text(tokenizer))) - _OF_ITS_OWN
        for name in self.options:
            if name not in words:
                raise ValueError(
                    f"chat_template_kwargs has {name!r}, which the chat template of the tokenizer "
                    f"does not read{did_you_mean(name, words) or ': leave it out'}"
                )

    def compose(self, chat: Chat, num_answers: int) -> list[str | Answer]:
        """The prompt as runs of text and answer slots.

        A chat whose last turn is the assistant's is continued there. Any other is followed by the
        beginning of the assistant's turn. A special token that a user or a tool wrote is text, so
        it is cut into two runs.

        Raises:
            ValueError: a message is no text, the chat template does not take the messages, or it
                leaves out a text or an answer.
        """
        messages = without_empty_end(plain_messages(chat))
        place = question_place(messages)
        self._refuse_unshown(messages)
        texts = [message["content"] for message in messages]
        mark = _unused_mark([*vars(self.templates).values(), *texts])
        messages = [self._as_text(message, f"{mark}{CLOSE}") for message in messages]
        pieces = self.templates.compose(messages[place]["content"], num_answers)
        content = "".join(
            f"{mark}{piece.role_index}{CLOSE}" if isinstance(piece, Answer) else piece
            for piece in pieces
        )
        rendered = self._render(
            [*messages[:place], {**messages[place], "content": content}, *messages[place + 1 :]]
        )
        found = _split_slots(rendered, mark)
        _refuse_missing_answers(pieces, found)
        _refuse_missing_texts(messages, place, pieces, rendered)
        return found

    def _refuse_unshown(self, messages: Chat) -> None:
        """Check once for each order of roles that the chat template shows all in that order.

        A text alone does not say so: "4" may stand in a date, and "yes" in two messages.
        """
        kind = tuple((message["role"], bool(message["content"].strip())) for message in messages)
        if kind in self.shown:
            return
        if not self.shown and "strftime_now" in _template_text(self.tokenizer) and not self.options:
            logger.warning(
                "The chat template of the tokenizer can write today's date into prompts, so that "
                "another day asks something else: if it reads date_string, set "
                'chat_template_kwargs={"date_string": "…"}.'
            )
        mark = _unused_mark([message["content"] for message in messages])
        marked = [
            {**message, "content": f"{message['content']}{mark}{place}{CLOSE}"}
            if message["content"].strip()
            else message
            for place, message in enumerate(messages)
        ]
        slots = _split_slots(self._render(marked), mark)
        found = list(dict.fromkeys(slot.role_index for slot in slots if isinstance(slot, Answer)))
        for place, (role, has_text) in enumerate(kind):
            if has_text and place not in found:
                raise ValueError(_left_out(messages[place]["content"], role))
        # Some templates write a system text into a message of the user.
        spoken = [place for place in found if kind[place][0] not in SYSTEM_ROLES]
        if spoken != sorted(spoken):
            raise ValueError(
                "the chat template of the tokenizer puts the messages into another order: give the "
                "tokenizer a chat_template that keeps theirs"
            )
        self.shown.add(kind)

    def _as_text(self, message: dict[str, Any], cut: str) -> dict[str, Any]:
        """The message with a cut in each special token that its author does not mean as one."""
        if message["role"] in MAY_CONTROL or self.inside is None:
            return message
        return {**message, "content": self.inside.sub(cut, message["content"])}

    def _render(self, messages: Chat) -> str:
        if not _template_text(self.tokenizer):
            raise ValueError(
                "the query is a list of chat messages, but the tokenizer has no chat template: "
                "choose a model that has one, set the tokenizer's chat_template, or write queries "
                "as texts"
            )
        # What closes a turn that is to be continued stands behind its text, and so behind a mark.
        last = messages[-1]
        end = _unused_mark([message["content"] for message in messages])
        end = end if last["role"] == "assistant" else ""
        messages = [*messages[:-1], {**last, "content": last["content"] + end}]
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=not end, **self.options
            )
        # A template is a program that may raise anything.
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages)
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"the chat template of the tokenizer does not take a chat of the roles {roles}: "
                f"{reason}. Change the messages (a system text can stand at the "
                "beginning of the user's first message), or give the tokenizer a chat_template "
                "that takes them"
            ) from error
        return str(text).rpartition(end)[0] if end and end in text else str(text)


_OF_ITS_OWN = frozenset({"messages", "add_generation_prompt"})
"""Variables of a chat template that follow from the query."""


def _template_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template, or all of them where there are several.

    Raises:
        ValueError: it is no text.
    """
    template: Any = tokenizer.chat_template
    texts = list(template.values()) if isinstance(template, dict) else [template or ""]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"the tokenizer's chat_template is {template!r:.100}, which is no text: give the "
            "tokenizer that of its model"
        )
    return "\n".join(texts)


def _texts(pieces: Sequence[str | Answer]) -> list[str]:
    return [piece for piece in pieces if isinstance(piece, str)]


def _unused_mark(texts: Sequence[str]) -> str:
    """How a slot begins: like nothing in the texts."""
    marks = (f"{OPEN}{number}{OPEN}" for number in count())
    return next(mark for mark in marks if not any(mark in text for text in texts))


def _split_slots(text: str, mark: str) -> list[str | Answer]:
    pieces = re.split(f"{mark}(\\d*){CLOSE}", text)
    # The pattern has a group, so every second piece is what it matched: the place of an answer, or
    # nothing in a cut.
    return [
        Answer(int(piece)) if index % 2 else piece for index, piece in enumerate(pieces) if piece
    ]


def _refuse_missing_texts(
    messages: Chat, place: int, pieces: Sequence[str | Answer], rendered: str
) -> None:
    for index, message in enumerate(messages):
        texts = [message["content"].rpartition(END_OF_THOUGHT)[2]]
        if index == place:
            texts = _texts(pieces)
        texts = [*texts, *called_functions(message)]
        if missing := [text for text in texts if text.strip() not in rendered]:
            raise ValueError(_left_out(missing[0], message["role"]))


def _left_out(text: str, role: str) -> str:
    return (
        f"the chat template of the tokenizer leaves out {text[:200]!r}, the text of a message of "
        f"role {role!r}: write it into a message that it shows, or give the tokenizer a "
        "chat_template that shows it"
    )


def _refuse_missing_answers(wanted: Sequence[str | Answer], found: Sequence[str | Answer]) -> None:
    counted = [
        Counter(piece for piece in pieces if isinstance(piece, Answer))
        for pieces in (wanted, found)
    ]
    if missing := counted[0] - counted[1]:
        raise ValueError(
            f"the chat template of the tokenizer leaves out {missing.total()} of "
            f"{counted[0].total()} earlier answers, so an observer would not see them: give the "
            "tokenizer a chat_template that shows the whole of the user's message, or set "
            "knowledge_transfer=False"
        )
