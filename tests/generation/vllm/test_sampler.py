"""Answers of a server that computes, and of one that dies."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from cory.generation.local import Answers, Sampler
from cory.generation.vllm.sampler import VllmSampler
from cory.generation.vllm.server import ServerLostError
from cory.models.batch import make_batch
from cory.models.loading import build_policies, load_model
from cory.models.policy import LanguageModel, Policy
from cory.training.setup import RunComponents, UserObjects, build_components
from tests.generation.test_stops import brute_force
from tests.generation.vllm.servers import Running, computing_server, fake_server
from tests.teams import ADAPTERS, disturb, make_args, make_team, plain_logits
from tests.tiny_models import save_tiny_llama
from tests.tiny_runs import queries

PROMPTS = [[0, 50, 51, 52], [0, 60], [0, 50, 51, 52], [0, *range(40, 60)]]
IMPATIENT = {"vllm_server_timeout": 2.0}


@pytest.fixture(scope="module")
def computing(tiny_llama_dir: Path) -> Iterator[Running]:
    with computing_server(tiny_llama_dir) as server:
        yield server


def team_on(server: Running, model: Path, output_dir: Path, **settings: Any) -> RunComponents:
    return make_team(
        model,
        output_dir=str(output_dir),
        vllm_server_base_url=server.url,
        **{**ADAPTERS, **settings},
    )


def ask(
    team: RunComponents, policy: LanguageModel, seed: int = 0, prompts: Any = PROMPTS
) -> Answers:
    generator = torch.Generator().manual_seed(seed)
    return team.sampler.generate(policy, prompts, 6, team.args.temperature, generator)


def own_logprobs(
    policy: LanguageModel, prompt: list[int], response: list[int], temperature: float
) -> torch.Tensor:
    logprobs = (plain_logits(policy, prompt, response) / temperature).log_softmax(-1)
    return logprobs[torch.arange(len(response)), torch.tensor(response)]


def test_each_agent_answers_with_its_own_weights(
    tiny_llama_dir: Path, tmp_path: Path, computing: Running
) -> None:
    """Prevents answers of the base, of the other agent, or of weights before an update."""
    team = team_on(computing, tiny_llama_dir, tmp_path, temperature=0.7)
    assert isinstance(team.sampler, Sampler)
    for seed in range(2):
        for index, policy in enumerate(team.policies):
            disturb(policy, seed=10 * seed + index)
        for policy in (*team.policies, team.reference):
            answers = ask(team, policy)
            assert answers.hidden is None
            assert answers.logprobs is not None
            for row, response in enumerate(answers.token_ids):
                expected = own_logprobs(policy, PROMPTS[row], response, 0.7)
                served = answers.logprobs[row]
                torch.testing.assert_close(served[: len(response)], expected, atol=1e-4, rtol=1e-4)
                assert not served[len(response) :].any()
        assert len(computing.served()) == 2


def test_answers_end_where_they_should(
    tiny_llama_dir: Path, tmp_path: Path, computing: Running
) -> None:
    """Prevents a server's own idea of where an answer ends."""
    team = team_on(computing, tiny_llama_dir, tmp_path)
    answers = ask(team, team.policies[0], prompts=PROMPTS * 8)
    ended = [ids for ids in answers.token_ids if ids[-1] in team.encoder.end_ids]
    assert 0 < len(ended) < len(answers.token_ids)
    for ids in answers.token_ids:
        assert not team.encoder.end_ids & set(ids[:-1])
        assert ids in ended or len(ids) == 6


def test_answers_end_with_a_stop_string(
    tiny_llama_dir: Path, tmp_path: Path, computing: Running
) -> None:
    """Prevents a stop string that the server is not told, or that it takes out of the answer."""
    whole = team_on(computing, tiny_llama_dir, tmp_path)
    answers = ask(whole, whole.reference, prompts=PROMPTS * 4)
    texts = whole.encoder.decode(answers.token_ids)
    stops = [text[2:4] for text in texts[:4] if "\ufffd" not in text[2:4] and len(text) > 4]
    team = team_on(computing, tiny_llama_dir, tmp_path / "stops", stop_strings=stops)
    ended = ask(team, team.reference, prompts=PROMPTS * 4)
    assert (
        ended.token_ids
        == [brute_force(team.encoder, ids, stops) for ids in answers.token_ids]
        != answers.token_ids
    )
    assert ended.logprobs is not None
    assert answers.logprobs is not None
    for row, ids in enumerate(ended.token_ids):
        torch.testing.assert_close(
            ended.logprobs[row, : len(ids)], answers.logprobs[row, : len(ids)]
        )
    assert sum(team.encoder.have_ended(ended.token_ids)) > 1


def test_a_seed_means_one_answer(tiny_llama_dir: Path, tmp_path: Path, computing: Running) -> None:
    """Prevents equal answers to equal prompts, and a run that no seed repeats."""
    team = team_on(computing, tiny_llama_dir, tmp_path)
    once, again = (ask(team, team.reference, prompts=PROMPTS * 4) for _ in range(2))
    assert once.token_ids == again.token_ids
    assert once.token_ids != ask(team, team.reference, seed=1, prompts=PROMPTS * 4).token_ids
    to_one_prompt = {tuple(once.token_ids[row]) for row in range(0, 16, 2)}
    assert len(to_one_prompt) > 4


def test_a_team_that_starts_from_an_adapter(
    tiny_llama_dir: Path, tmp_path: Path, computing: Running
) -> None:
    """Prevents a reference that answers as the base where the initial model is an adapter."""
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    model = get_peft_model(base, LoraConfig(r=2, init_lora_weights=False), adapter_name="start")
    model.base_model.model.config._name_or_path = str(tiny_llama_dir)
    args = make_args(output_dir=str(tmp_path), vllm_server_base_url=computing.url)
    team = build_components(
        args, UserObjects(model=model, reward_funcs=[_no_reward], train_dataset=queries())
    )
    response = ask(team, team.reference).token_ids[0]
    served = ask(team, team.reference).logprobs
    assert served is not None
    expected = own_logprobs(team.reference, PROMPTS[0], response, 1.0)
    torch.testing.assert_close(served[0, : len(response)], expected, atol=1e-4, rtol=1e-4)
    assert [name for name in computing.served() if name.startswith("start-")]


def _no_reward(completions: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


def test_another_model_is_refused(tiny_llama_dir: Path, tmp_path: Path, computing: Running) -> None:
    """Prevents a run whose samples come from some other model on that port."""
    other = save_tiny_llama(tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight.flip(0) * 2)
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(tiny_llama_dir).save_pretrained(other)
    with pytest.raises(ValueError, match=r"serves 'base', which is not the initial model: .* nats"):
        team_on(computing, other, tmp_path / "run")


def test_logprobs_from_before_the_temperature_are_refused(
    tiny_llama_dir: Path, tmp_path: Path, computing: Running
) -> None:
    """Prevents importance weights between two different quantities."""
    computing.meets("raw")
    team_on(computing, tiny_llama_dir, tmp_path / "one", temperature=1.0)
    computing.meets("raw")
    with pytest.raises(ValueError, match=r"--logprobs-mode processed_logprobs"):
        team_on(computing, tiny_llama_dir, tmp_path / "two", temperature=0.5)


FILTERS = [{"top_p": 0.8}, {"top_k": 5}, {"min_p": 0.3}, {"top_p": 0.9, "top_k": 9, "min_p": 0.1}]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filtered_answers_are_scored_as_they_were_drawn(
    filters: dict[str, float], tiny_llama_dir: Path, tmp_path: Path, computing: Running
) -> None:
    """Prevents importance weights between a filtered and a whole distribution.

    The stand-in filters with transformers' own classes.
    """
    team = team_on(computing, tiny_llama_dir, tmp_path, temperature=0.7, **filters)
    policy = team.policies[0]
    disturb(policy, seed=0)
    answers = ask(team, policy, prompts=PROMPTS * 4)
    assert answers.logprobs is not None
    batch = make_batch(PROMPTS * 4, answers.token_ids)
    scores = team.scorer.score(policy, batch)
    torch.testing.assert_close(scores.logprobs, answers.logprobs, atol=1e-4, rtol=1e-4)
    whole = own_logprobs(policy, PROMPTS[0], answers.token_ids[0], 0.7)
    assert (answers.logprobs[0, : len(whole)] - whole).max() > 0.05


def test_logprobs_from_before_the_filters_are_refused(
    tiny_llama_dir: Path, tmp_path: Path, computing: Running
) -> None:
    """Prevents importance weights that are the same few percent too small for every token."""
    computing.meets("raw")
    with pytest.raises(ValueError, match=r"top_k=5.*--logprobs-mode processed_logprobs"):
        team_on(computing, tiny_llama_dir, tmp_path, top_k=5)


def test_queries_must_fit_the_servers_context(
    tiny_llama_dir: Path, tmp_path: Path, computing: Running
) -> None:
    """Prevents a refusal in the middle of a run that could be known at its start."""
    with pytest.raises(ValueError, match=r"do not fit the model's context of 512 tokens"):
        team_on(computing, tiny_llama_dir, tmp_path, queries=["It", "was so good " * 60])


def sampler_on(
    server: Running, model: Path, output_dir: Path, **settings: Any
) -> tuple[VllmSampler, Policy]:
    """Without a look at the answers: they are canned."""
    args = make_args(
        model,
        output_dir=str(output_dir),
        vllm_server_base_url=server.url,
        **{**ADAPTERS, **IMPATIENT, **settings},
    )
    policies, _ = build_policies(load_model(str(model), args), args)
    return VllmSampler(policies, frozenset({1}), args), policies[0]


def draw(sampler: VllmSampler, policy: LanguageModel) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return sampler.generate(policy, PROMPTS * 3, 6, 1.0, generator).token_ids


def _wait_until_gone(server: Running) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            httpx2.get(f"{server.url}/health")
        except httpx2.TransportError:
            return
    raise AssertionError("it should have died")


@pytest.mark.parametrize("fault", ["500", "404", "abort", "hang"])
def test_a_fault_changes_no_answer(
    tiny_llama_dir: Path, tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a run that depends on how often its server was asked."""
    with fake_server() as server:
        sampler, policy = sampler_on(server, tiny_llama_dir, tmp_path)
        undisturbed = draw(sampler, policy)
        server.meets("ok", "ok", fault, "ok", fault)
        assert draw(sampler, policy) == undisturbed
    assert "does not answer" in capsys.readouterr().err


def test_a_restarted_server_goes_on(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents a run that ends although its server came back, or that asks it for unknown names."""
    with fake_server() as server:
        sampler, policy = sampler_on(server, tiny_llama_dir, tmp_path, vllm_server_timeout=60.0)
        undisturbed = draw(sampler, policy)
        server.meets("ok", "ok", "die")
        found: list[list[list[int]]] = []
        asking = threading.Thread(target=lambda: found.append(draw(sampler, policy)))
        asking.start()
        _wait_until_gone(server)
    with fake_server(port=server.port) as again:
        asking.join(timeout=60)
        assert found == [undisturbed]
        assert len(again.served()) == 1


def test_a_lost_server_ends_in_time(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents a run that waits for ever."""
    with fake_server() as server:
        sampler, policy = sampler_on(server, tiny_llama_dir, tmp_path, vllm_server_timeout=2.0)
        server.meets("die")
        started = time.monotonic()
        with pytest.raises(ServerLostError, match=r"not answered for 2 seconds .* with --resume"):
            draw(sampler, policy)
        assert time.monotonic() - started < 20
        with pytest.raises(ServerLostError, match="ConnectError"):
            sampler_on(server, tiny_llama_dir, tmp_path, vllm_server_timeout=1.0)


def test_vllm_is_never_imported() -> None:
    """Prevents the two environments from having to agree on anything."""
    assert "vllm" not in sys.modules
