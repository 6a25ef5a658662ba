"""The one schema of what a vLLM server may answer: whatever else it says is a `ServerError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cory.io.errors import CoryRuntimeError
from cory.io.objects import parse_object, shown

MOST_POSITIVE = 1e-3
"""What rounding may make of a log-probability of 0."""
LEAST = -1e30
"""Of a log-probability; float32 holds it."""
MAX_CONTEXT = 1_000_000_000
FIX = "Use a vLLM that knows return_token_ids (0.10.2 or newer), and nothing between it and cory"


class ServerError(CoryRuntimeError):
    """A vLLM server answers something that no training can go on with."""


class NoAnswerError(Exception):
    """There was no usable answer this time; there may be one later."""


class Completion(NamedTuple):
    """One response: token ids, the end-of-sequence token included, and their log-probabilities."""

    token_ids: list[int]
    logprobs: list[float]


def read_models(content: bytes) -> dict[str, dict[str, Any]]:
    """The cards of what is served, by name; the base has the `parent` None.

    Raises:
        ServerError: it is no list of cards.
    """
    cards = _get(_object(content), "data", list)
    for place, card in enumerate(cards):
        _get({"card": card}, "card", dict, f"data[{place}]")
        _get(card, "id", str, f"data[{place}].id")
        _get(card, "parent", str | None, f"parent of {card['id']!r:.100}")
    return {card["id"]: card for card in cards}


def base_of(models: Mapping[str, Mapping[str, Any]]) -> tuple[str, int]:
    """The name of the base among the cards, and how many tokens it reads.

    Raises:
        ServerError: there is no base, or it does not say.
    """
    card = next((card for card in models.values() if card["parent"] is None), None)
    if card is None:
        names = ", ".join(models) or "nothing"
        raise ServerError(f"serves no base, only {names:.300}: start it again")
    name = f"max_model_len of {card['id']!r:.100}"
    length = _get(card, "max_model_len", int, name)
    if not 0 < length <= MAX_CONTEXT:
        raise ServerError(f"says {name} is {shown(length)}: it must be a number of tokens")
    return card["id"], length


def read_completion(content: bytes, max_tokens: int, vocabulary_size: int) -> Completion:
    """The response that a completion holds.

    Raises:
        NoAnswerError: it was broken off.
        ServerError: it is no response of 1 to `max_tokens` tokens of the vocabulary.
    """
    choices = _get(_object(content), "choices", list)
    choice = _get({"choice": choices[0] if choices else None}, "choice", dict, "choices[0]")
    reason = _get(choice, "finish_reason", str | None)
    if reason not in ("stop", "length"):
        raise NoAnswerError(f"the answer was broken off (finish_reason={reason!r:.100})")
    token_ids = _get(choice, "token_ids", list)
    logprobs = _get(_get(choice, "logprobs", dict), "token_logprobs", list)
    if not 0 < len(token_ids) <= max_tokens or len(token_ids) != len(logprobs):
        raise ServerError(
            f"answered {len(token_ids)} token ids with {len(logprobs)} log-probabilities: both "
            f"must be of one length, from 1 to max_tokens={max_tokens}"
        )
    for place, number in enumerate(token_ids):
        if type(number) is not int or not 0 <= number < vocabulary_size:
            raise ServerError(
                f"answered token_ids[{place}]={shown(number)}: it must be a whole number from 0 "
                f"to {vocabulary_size - 1}. It must serve the model of model_name_or_path"
            )
    for place, number in enumerate(logprobs):
        if type(number) not in (int, float) or not LEAST <= number <= MOST_POSITIVE:
            raise ServerError(
                f"answered token_logprobs[{place}]={shown(number)}: it must be a finite number, "
                "not above 0"
            )
    return Completion(token_ids, [min(float(number), 0.0) for number in logprobs])


def refusal(content: bytes) -> str:
    """A refusal in the server's own words."""
    text = content.decode(errors="replace")
    try:
        return str(parse_object(content, "")["error"]["message"])[:500]
    except (KeyError, TypeError, ValueError):
        return text[:500]


def _object(content: bytes) -> dict[str, Any]:
    try:
        return parse_object(content, "the answer")
    except ValueError as error:
        text = content[:200].decode(errors="replace")
        raise ServerError(f"answered {text!r}: {error}. {FIX}") from error


def _get(owner: Mapping[str, Any], key: str, kind: Any, name: str | None = None) -> Any:
    if key not in owner:
        raise ServerError(f"answered without {name or key}. {FIX}")
    value = owner[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ServerError(f"answered {name or key}={shown(value)}, of the wrong kind. {FIX}")
    return value
