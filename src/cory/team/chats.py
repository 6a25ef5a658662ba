"""Chat queries: their messages as plain text, rendered by the tokenizer's chat template.

A chat template is a program of whoever published the model. What it makes of the messages is
checked: a text or an answer that it leaves out would be missing from the prompt without a word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from transformers import PreTrainedTokenizerBase

from cory.io.files import did_you_mean
from cory.team.roles import Answer, Templates

Chat = list[dict[str, Any]]
Query = str | Chat
OPEN, CLOSE = "\ue000", "\ue001"
"""Private-use characters around what stands for an answer while a chat template is rendered."""
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


def is_chat(query: Query) -> bool:
    """Whether a query is a list of chat messages rather than a string."""
    return not isinstance(query, str)


def question_text(query: Query) -> str:
    """The text that the templates apply to: the query itself, or a message of a chat.

    Raises:
        ValueError: see `plain_messages`.
    """
    if isinstance(query, str):
        return query
    messages = plain_messages(query)
    return messages[question_place(messages)]["content"]


def plain_messages(chat: Sequence[Any]) -> Chat:
    """The messages with one text each as content, without the fields that are None.

    A content may be a text or a list of text parts, which are joined. None is the empty text of a
    message that only calls tools. Data sets fill fields that a message lacks with None.

    Raises:
        ValueError: a message has no role, or a content that is no text.

    >>> plain_messages([{"role": "user", "content": [{"type": "text", "text": "Two?"}]}])
    [{'role': 'user', 'content': 'Two?'}]
    """
    return [_plain_message(message) for message in chat]


def _plain_message(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(
            f"the chat message {message!r} has no role that is a text: write it like "
            '{"role": "user", "content": "…"}'
        )
    fields = {key: _without_none(value) for key, value in message.items() if value is not None}
    content = fields.get("content", "" if fields.get("tool_calls") else None)
    return {**fields, "content": _text_of(content, message["role"])}


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _text_of(content: Any, role: str) -> str:
    joined = ""
    for part in content if isinstance(content, list) else [content]:
        is_text_part = part is not content and isinstance(part, dict) and part.get("type") == "text"
        text = part.get("text") if is_text_part else part
        if not isinstance(text, str):
            raise ValueError(
                f"the chat message of role {role!r} has the content {part!r}, which is not text: "
                'write a text, or a list of parts such as {"type": "text", "text": "…"}'
            )
        joined += text
    return joined


def question_place(messages: Chat) -> int:
    """Which message the templates apply to: the user's last, else the last of another speaker.

    Raises:
        ValueError: there is none, or it has no text.
    """
    roles = [message["role"] for message in messages]
    asked = [place for place, role in enumerate(roles) if role == "user"]
    others = [place for place, role in enumerate(roles) if role != "assistant"]
    if not others:
        raise ValueError(
            f"the chat has the roles {roles}, and so no question: it needs a message of the user"
        )
    place = (asked or others)[-1]
    if not messages[place]["content"].strip():
        raise ValueError(
            f"the chat's last message of role {roles[place]!r} has no text: it must hold the query"
        )
    return place


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
        messages = plain_messages(chat)
        place = question_place(messages)
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
        is_continued = messages[-1]["role"] == "assistant"
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not is_continued,
                continue_final_message=is_continued,
                **self.options,
            )
        # A template is a program that may raise anything.
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"the chat template of the tokenizer does not take a chat of the roles {roles}: "
                f"{error or type(error).__name__}. Change the messages (a system text can stand at "
                "the beginning of the user's first message), or give the tokenizer a chat_template "
                "that takes them"
            ) from error
        return str(text)


_OF_ITS_OWN = frozenset({"messages", "add_generation_prompt"})
"""Variables of a chat template that follow from the query."""


def _template_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template, or all of them where there are several."""
    template: Any = tokenizer.chat_template
    return "\n".join(template.values()) if isinstance(template, dict) else template or ""


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
        if missing := [text for text in texts if text.strip() not in rendered]:
            raise ValueError(
                f"the chat template of the tokenizer leaves out {missing[0][:200]!r}, the text of "
                f"a message of role {message['role']!r}: write it into a message that it shows, or "
                "give the tokenizer a chat_template that shows it"
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
