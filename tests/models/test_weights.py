"""What an agent owns, saved for plain transformers and peft, and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from cory.models.policy import Policy
from tests.teams import ADAPTERS, disturb, make_team

IDS = torch.tensor([[50, 51, 52, 60]])


@torch.no_grad()
def logits_of(policy: Policy) -> Tensor:
    with policy.activate():
        return policy.model(input_ids=IDS).logits


def plain_load(base: Path, directory: Path, settings: dict) -> PreTrainedModel | PeftModel:
    """As a user does it, without `cory`."""
    if not settings:
        return AutoModelForCausalLM.from_pretrained(directory)
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), directory)


@pytest.mark.parametrize("settings", [{}, ADAPTERS], ids=["full", "adapters"])
@pytest.mark.parametrize("architecture", ["tiny_gpt2_dir", "tiny_llama_dir"])
def test_saved_agents_load_without_cory(
    request: pytest.FixtureRequest, tmp_path: Path, architecture: str, settings: dict
) -> None:
    """Prevents a result that only cory can read, or agents saved under each other's name."""
    base = request.getfixturevalue(architecture)
    team = make_team(base, **settings)
    for index, policy in enumerate(team.policies):
        disturb(policy, seed=index)
        policy.weights.save(tmp_path / f"agent_{index}")
    for index, policy in enumerate(team.policies):
        model = plain_load(base, tmp_path / f"agent_{index}", settings).eval()
        with torch.no_grad():
            logits = model(input_ids=IDS).logits
        torch.testing.assert_close(logits, logits_of(policy), rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, ADAPTERS], ids=["full", "adapters"])
def test_load_takes_back_what_save_wrote(
    tiny_gpt2_dir: Path, tmp_path: Path, settings: dict
) -> None:
    """Prevents a resume that changes a bit, replaces a trained tensor or moves the partner."""
    team = make_team(tiny_gpt2_dir, **settings)
    policy, partner = team.policies
    disturb(policy, seed=0)
    disturb(partner, seed=1)
    saved, untouched = logits_of(policy), logits_of(partner)
    policy.weights.save(tmp_path / "step-1" / "agent_0")
    weights = policy.language_parameters()
    disturb(policy, seed=2)
    assert not torch.equal(logits_of(policy), saved)
    policy.weights.load(tmp_path / "step-1" / "agent_0")
    assert torch.equal(logits_of(policy), saved)
    assert torch.equal(logits_of(partner), untouched)
    for weight, same in zip(weights, policy.language_parameters(), strict=True):
        assert weight is same


def test_an_adapter_may_be_saved_under_any_name(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a stray folder of the adapter's name beside the one that was asked for."""
    team = make_team(tiny_gpt2_dir, **ADAPTERS)
    team.policies[1].weights.save(tmp_path / "best")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["best"]
    assert (tmp_path / "best" / "adapter_model.safetensors").is_file()
