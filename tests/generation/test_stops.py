"""Answers end with the token that completes a stop string, however they are sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from cory.generation import cuda_graph as fixed_decoding
from cory.generation.local import LocalSampler, answer_each
from cory.generation.stops import NO_STOPS, WIDER, StopStrings
from cory.models.loading import load_tokenizer
from cory.team.prompts import PromptEncoder, end_token_ids
from cory.team.roles import Templates
from cory.training.setup import RunComponents
from tests.teams import ADAPTERS, QUERIES, disturb, make_team

SETTINGS = {
    "gpt2": ("tiny_gpt2_dir", {}),
    "llama": ("tiny_llama_dir", {}),
    "llama-adapters": ("tiny_llama_dir", ADAPTERS),
}
LENGTH = 40


@pytest.fixture(scope="module", params=SETTINGS)
def team(request: pytest.FixtureRequest) -> RunComponents:
    fixture, settings = SETTINGS[request.param]
    team = make_team(request.getfixturevalue(fixture), **settings)
    for index, policy in enumerate(team.policies):
        disturb(policy, seed=index)
    return team


def sample(
    team: RunComponents, stops: StopStrings, rows: int = 100, end_ids: frozenset[int] | None = None
) -> list[list[int]]:
    """Four answers of each agent to each query."""
    ends = team.encoder.end_ids if end_ids is None else end_ids
    sampler = LocalSampler(ends, rows, stops=stops)
    prompts = [team.encoder.encode(query, []) for query in QUERIES for _ in range(4)]
    answers = answer_each(
        sampler,
        team.policies,
        [prompts] * len(team.policies),
        LENGTH,
        1.0,
        [torch.Generator().manual_seed(index) for index, _ in enumerate(team.policies)],
    )
    return [ids for answer in answers for ids in answer.token_ids]


def brute_force(encoder: PromptEncoder, ids: list[int], texts: Sequence[str]) -> list[int]:
    """The first beginning of an answer whose text holds one of the texts, else the answer."""
    for size in range(1, len(ids)):
        [text] = encoder.decode([ids[:size]])
        if any(stop in text for stop in texts):
            return ids[:size]
    return ids


def stops_found_in(team: RunComponents, answers: list[list[int]]) -> list[str]:
    """Texts of answers that begin inside a token and end inside another, one and two letters."""
    texts = [text for text in team.encoder.decode(answers) if len(text) > 12]
    places = ((5, 4), (9, 2), (7, 1))
    found = [text[place : place + size] for text in texts[:3] for place, size in places]
    return [*(text for text in found[:7] if "\ufffd" not in text), "é"]


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("rows", [100, 5])
def test_answers_end_where_their_text_says(
    team: RunComponents, fixed: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents an end one token early or late, or one that hangs on how answers are decoded."""
    whole = sample(team, NO_STOPS)
    texts = stops_found_in(team, whole)
    expected = [brute_force(team.encoder, ids, texts) for ids in whole]
    if fixed:
        monkeypatch.setattr(fixed_decoding, "FIXED_SHAPES_ON", {"cpu"})
        monkeypatch.setattr("cory.generation.decoding.STEPS_BETWEEN_LOOKS", {})
    assert sample(team, StopStrings(tuple(texts), team.encoder.decode), rows) == expected
    lengths = [len(ids) for ids in expected]
    assert len(set(lengths)) > 3, "they end at different times"
    assert any(len(ids) == len(all_of) for ids, all_of in zip(expected, whole, strict=True))


def test_answers_that_have_stopped_are_no_longer_decoded(team: RunComponents) -> None:
    """Prevents a batch that goes on to the limit after all of it has come to a stop string."""
    passes: list[int] = []
    embedding = team.policies[0].model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    letters = tuple("abcdefghijklmnopqrstuvwxyz .,!")
    short = sample(team, StopStrings(letters, team.encoder.decode), end_ids=frozenset())
    handle.remove()
    assert max(map(len, short)) < LENGTH
    assert len(passes) <= 2 * max(map(len, short))


def test_a_stop_string_is_looked_for_in_the_whole_answer(team: RunComponents) -> None:
    """Prevents a stop string from being missed that is longer than the last tokens."""
    [text] = team.encoder.decode([list(range(40, 100))])
    stops = StopStrings((text[: len(text) // 2],), team.encoder.decode)
    ids = [*range(40, 100), *range(40, 60)]
    assert len(ids) > WIDER
    assert stops.cut([ids, [50]]) == [brute_force(team.encoder, ids, stops.texts), [50]]
    running = torch.tensor([True, True, False])
    stops.keep_running(running, torch.tensor([ids, [50] * len(ids), ids]))
    assert running.tolist() == [True, True, False], "too long ago to be new"
    running = torch.tensor([True, True, False])
    stops.keep_running(running, torch.tensor([ids[:40], [50] * 40, ids[:40]]))
    assert running.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        ([], {"</s>"}),
        (["x", "\n"], {"</s>"}),
        (["<s>"], {"<s>", "</s>"}),
        (["</s>", "x"], {"</s>"}),
    ],
)
def test_a_special_token_is_a_stop_string_by_its_id(
    stops: list[str], expected: set[str], tiny_llama_dir: Path
) -> None:
    """Prevents `<|im_end|>` from never being found, as texts are decoded without such tokens."""
    tokenizer = load_tokenizer(str(tiny_llama_dir))
    ids = end_token_ids(tokenizer, None, stops)
    assert set(tokenizer.convert_ids_to_tokens(sorted(ids))) == expected


def test_a_special_token_and_more_is_refused(tiny_llama_dir: Path) -> None:
    """Prevents a stop string that no text can hold."""
    tokenizer = load_tokenizer(str(tiny_llama_dir))
    with pytest.raises(ValueError, match=r"'</s>\\n', which holds.*'</s>'.*write '</s>' alone"):
        end_token_ids(tokenizer, None, ["</s>\n"])


def test_who_has_ended(tiny_llama_dir: Path) -> None:
    """Prevents an answer that ended with a stop string from counting as cut off."""
    tokenizer = load_tokenizer(str(tiny_llama_dir))
    encoder = PromptEncoder(tokenizer, Templates(), end_token_ids(tokenizer, None), ("##",))
    ended = [tokenizer("a##", add_special_tokens=False)["input_ids"], [50, tokenizer.eos_token_id]]
    assert encoder.have_ended([*ended, [50]]) == [True, True, False]
