"""Which weights a name stands for, and what a server is left with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel

from cory.generation.vllm.adapters import ServedAdapters, check_servable, digest
from cory.generation.vllm.sampler import initial_adapter
from cory.generation.vllm.server import NoAnswerError, Server
from cory.models.loading import build_policies, load_model
from cory.models.policy import Policy
from cory.models.weights import Adapter
from cory.team.averaging import merged
from tests.generation.vllm.servers import Running, fake_server
from tests.teams import ADAPTERS, disturb, make_args


@pytest.fixture
def running() -> Iterator[Running]:
    with fake_server() as server:
        yield server


def policies_of(model: Path, **settings: Any) -> list[Policy]:
    args = make_args(model, **{**ADAPTERS, **settings})
    return build_policies(load_model(str(model), args), args)[0]


def adapter_of(policy: Policy) -> Adapter:
    assert isinstance(policy.weights, Adapter)
    return policy.weights


def test_a_version_replaces_the_one_before(
    tiny_llama_dir: Path, tmp_path: Path, running: Running
) -> None:
    """Prevents stale answers, a server full of old versions, and loads that nothing asked for."""
    first, second = map(adapter_of, policies := policies_of(tiny_llama_dir))
    served = ServedAdapters(Server(running.url, 5.0), tmp_path)
    names = [served.publish(first), served.publish(second)]
    assert running.served() == names
    assert [served.publish(first), served.publish(second)] == names
    disturb(policies[0], seed=1)
    newer = served.publish(first)
    assert running.served() == [names[1], newer]
    assert {path.name for path in tmp_path.iterdir()} == {names[1], newer}


def test_a_name_stands_for_weights(tiny_llama_dir: Path) -> None:
    """Prevents a cached prefix of other weights, and two names for the same ones."""
    policy = policies_of(tiny_llama_dir)[0]
    adapter = adapter_of(policy)
    before = digest(adapter)
    with adapter.activate():
        assert digest(adapter) == before
    weight = policy.language_parameters()[0]
    with torch.no_grad():
        weight.view(-1)[0] += 1e-4
        changed = digest(adapter)
        weight.view(-1)[0] -= 1e-4
    assert changed != before
    config = adapter.peft_model.peft_config[adapter.name]
    assert isinstance(config, LoraConfig)
    config.lora_alpha *= 2
    assert digest(adapter) != before


def test_what_is_written_is_the_adapter(
    tiny_llama_dir: Path, tmp_path: Path, running: Running
) -> None:
    """Prevents a server that gets another agent's weights, or half of them."""
    policies = policies_of(tiny_llama_dir)
    for index, policy in enumerate(policies):
        disturb(policy, seed=index)
    served = ServedAdapters(Server(running.url, 5.0), tmp_path)
    ids = torch.tensor([[0, 50, 51, 52]])
    for policy in policies:
        path = tmp_path / served.publish(adapter_of(policy))
        base = load_model(str(tiny_llama_dir), make_args(tiny_llama_dir))
        with torch.no_grad(), policy.activate():
            theirs = PeftModel.from_pretrained(base, str(path))(input_ids=ids).logits
            torch.testing.assert_close(theirs, policy.model(input_ids=ids).logits)


def test_a_merged_team_is_served_too(
    tiny_llama_dir: Path, tmp_path: Path, running: Running
) -> None:
    """Prevents `evaluate_merged` from asking for a name that nobody has loaded."""
    policies = policies_of(tiny_llama_dir)
    served = ServedAdapters(Server(running.url, 5.0), tmp_path)
    with merged(policies) as mean:
        name = served.publish(adapter_of(mean))
    assert running.served() == [name]
    assert name.startswith("merged-")


def test_runs_on_one_server_leave_each_other_alone(
    tiny_llama_dir: Path, tmp_path: Path, running: Running
) -> None:
    """Prevents two runs of the same seed from unloading each other's adapters."""
    policies = policies_of(tiny_llama_dir)
    names = []
    for directory in ("one", "two", "one"):
        served = ServedAdapters(Server(running.url, 5.0), tmp_path / directory)
        names.append(served.publish(adapter_of(policies[0])))
    assert names[0] != names[1]
    assert names[0] == names[2]
    disturb(policies[0], seed=1)
    newer = served.publish(adapter_of(policies[0]))
    assert running.served() == [names[1], newer]


def test_a_restarted_server_gets_its_adapter_again(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents a run that believes what a server before the restart was told."""
    adapter = adapter_of(policies_of(tiny_llama_dir)[0])
    with fake_server() as running:
        served = ServedAdapters(Server(running.url, 5.0), tmp_path)
        name = served.publish(adapter)
    served.forget()
    with pytest.raises(NoAnswerError):
        served.publish(adapter)
    with fake_server(port=running.port) as again:
        assert again.served() == []
        assert served.publish(adapter) == name
        assert again.served() == [name]


def test_adapters_that_vllm_does_not_serve(tiny_llama_dir: Path) -> None:
    """Prevents hours of answers from something else than the agent."""
    with pytest.raises(ValueError, match=r"needs adapters, .*full copies.*NCCL.*use_peft=True"):
        initial_adapter(policies_of(tiny_llama_dir, use_peft=False), "http://localhost:8000")
    args = make_args(tiny_llama_dir)
    target = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    for config in (
        IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
        LoraConfig(use_dora=True, **target),
        LoraConfig(modules_to_save=["lm_head"], **target),
    ):
        policies, _ = build_policies(load_model(str(tiny_llama_dir), args), args, config)
        with pytest.raises(ValueError, match=r"plain LoRA, not adapters with .* use plain LoRA"):
            check_servable(adapter_of(policies[0]))
    rescaled = LoraConfig(use_rslora=True, **target)
    policies, _ = build_policies(load_model(str(tiny_llama_dir), args), args, rescaled)
    check_servable(adapter_of(policies[0]))
