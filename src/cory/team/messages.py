"""Chat queries as data sets hold them: messages with a role and a text each.

No tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Chat = list[dict[str, Any]]
Query = str | Chat


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
    content = fields.get("content", "" if called_functions(fields) else None)
    return {**fields, "content": _text_of(content, message["role"])}


def called_functions(message: Mapping[str, Any]) -> list[str]:
    """Names of the functions that a message calls.

    Raises:
        ValueError: its calls are no list of objects with a function's name.
    """
    calls = message.get("tool_calls") or []
    names = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str):
            raise ValueError(
                f"the chat message of role {message['role']!r} has the tool call {call!r:.200}: "
                'write a list of calls such as {"function": {"name": "…", "arguments": {…}}}'
            )
        names.append(name)
    return names


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


def without_empty_end(messages: Chat) -> Chat:
    """The chat without a last turn of the assistant that has not begun; one begins anyway.

    Raises:
        ValueError: the last turn is a call of a tool, and nothing can be asked before its result.
    """
    if not messages or messages[-1]["role"] != "assistant":
        return messages
    last = messages[-1]
    if last.get("tool_calls"):
        raise ValueError(
            "the chat ends with a tool call of the assistant: add the message of role 'tool' with "
            "its result, or leave the call away"
        )
    return messages if last["content"].strip() else messages[:-1]


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
