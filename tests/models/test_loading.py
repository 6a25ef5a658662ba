"""Loading, full copies, adapters on one shared base, 4 bits, speed-ups."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from cory.generation.local import LocalSampler
from cory.models.batch import make_batch
from cory.models.loading import (
    build_policies,
    checkpoint_gradients,
    ensure_pad_token,
    load_model,
    load_tokenizer,
)
from cory.models.policy import LanguageModel, Policy
from cory.models.scoring import TokenScorer
from tests.teams import ADAPTERS, disturb, make_args

BATCH = make_batch([[50, 51, 52, 53], [60]], [[80, 81], [90, 91, 92]])
FOUR_BITS = {**ADAPTERS, "load_in_4bit": True}


def policies_of(model: Path, **settings) -> tuple[list[Policy], LanguageModel]:
    args = make_args(model, **settings)
    return build_policies(load_model(str(model), args), args)


@torch.no_grad()
def logits_of(model: LanguageModel) -> Tensor:
    return model.logits(model.response_hidden(BATCH), temperature=1.0)


def backward(policy: Policy) -> None:
    """The gradient of something that depends on every weight."""
    hidden = policy.response_hidden(BATCH)
    tokens = BATCH.response_tokens
    (policy.logprobs(hidden, tokens, 1.0).sum() + policy.values(hidden).sum()).backward()


@pytest.mark.parametrize("settings", [{}, ADAPTERS, FOUR_BITS], ids=["full", "adapters", "4bit"])
def test_agents_start_equal_and_move_alone(tiny_llama_dir: Path, settings: dict) -> None:
    """Prevents weights shared by two agents, or a reference that moves with one of them."""
    policies, reference = policies_of(tiny_llama_dir, num_agents=3, **settings)
    initial = logits_of(reference)
    for policy in policies:
        torch.testing.assert_close(logits_of(policy), initial, rtol=0, atol=1e-6)
    disturb(policies[1], seed=0)
    assert (logits_of(policies[1]) - initial).abs().max() > 0.1
    for unmoved in (policies[0], policies[2], reference):
        torch.testing.assert_close(logits_of(unmoved), initial, rtol=0, atol=0)


@pytest.mark.parametrize("settings", [{}, ADAPTERS, FOUR_BITS], ids=["full", "adapters", "4bit"])
def test_no_gradient_crosses_agents(tiny_llama_dir: Path, settings: dict) -> None:
    """Prevents an agent's update from training its partner, the base or the reference."""
    policies, reference = policies_of(tiny_llama_dir, **settings)
    for policy, partner in (policies, policies[::-1]):
        logits_of(partner)
        logits_of(reference)
        backward(policy)
        own = policy.language_parameters()
        assert own
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in own)
        assert any(weight.grad.abs().max() > 0 for weight in own)
        ids = {id(parameter) for parameter in policy.trainable_parameters()}
        for other in (*policies, reference):
            for parameter in other.parameters():
                assert id(parameter) in ids or parameter.grad is None
        policy.zero_grad(set_to_none=True)


def test_parameters_of_agents_do_not_overlap(tiny_llama_dir: Path) -> None:
    """Prevents agent_1 from owning the weights of agent_10, whose name starts the same."""
    policies, _ = policies_of(tiny_llama_dir, num_agents=11, **ADAPTERS)
    owned = [{id(weight) for weight in policy.language_parameters()} for policy in policies]
    assert {len(ids) for ids in owned} == {len(owned[0])}
    assert len(set.union(*owned)) == 11 * len(owned[0])


def test_adapters_share_one_base(tiny_llama_dir: Path) -> None:
    """Prevents a second copy of a 7B model."""
    policies, reference = policies_of(tiny_llama_dir, **ADAPTERS)
    first, second = policies
    assert first.model is second.model is reference.model
    embeddings = [model.model.get_input_embeddings() for model in (first, second, reference)]
    assert len({embedding.weight.data_ptr() for embedding in embeddings}) == 1


def test_full_copies_share_nothing(tiny_gpt2_dir: Path) -> None:
    """Prevents two agents from training one tensor; tied embeddings stay tied inside a copy."""
    policies, reference = policies_of(tiny_gpt2_dir)
    pointers = [
        {parameter.data_ptr() for parameter in model.model.parameters()}
        for model in (*policies, reference)
    ]
    assert len(set.union(*pointers)) == sum(map(len, pointers))
    for model in (*policies, reference):
        assert model.model.lm_head.weight is model.model.transformer.wte.weight


def test_initial_adapters_are_identical(tiny_llama_dir: Path) -> None:
    """Prevents teams whose agents differ by the luck of LoRA's random A."""
    policies, _ = policies_of(tiny_llama_dir, **ADAPTERS)
    first, second = (policy.language_parameters() for policy in policies)
    for weight, partner in zip(first, second, strict=True):
        assert torch.equal(weight, partner)
        assert weight.data_ptr() != partner.data_ptr()
    assert any(weight.abs().max() > 0 for weight in first)


def test_embeddings_may_have_adapters(tiny_llama_dir: Path) -> None:
    """Prevents weights that nobody owns: peft names those of an embedding otherwise."""
    args = make_args(tiny_llama_dir)
    config = LoraConfig(target_modules=["embed_tokens", "q_proj"], task_type="CAUSAL_LM")
    policies, _ = build_policies(load_model(str(tiny_llama_dir), args), args, config)
    # Two matrices for each of two layers' q_proj and for the embedding.
    assert [len(policy.language_parameters()) for policy in policies] == [6, 6]


def test_four_bit_base_samples_and_scores(tiny_llama_dir: Path) -> None:
    """Prevents a base that is not quantised after all, or log-probabilities that are not finite."""
    policies, reference = policies_of(tiny_llama_dir, **FOUR_BITS)
    quantised = {type(module).__name__ for module in reference.model.modules()}
    assert "Linear4bit" in quantised
    sampler = LocalSampler(frozenset({2}), rows_per_pass=2)
    generator = torch.Generator().manual_seed(0)
    answers = sampler.generate(policies[1], [[50, 51, 52], [60]], 5, 1.0, generator)
    batch = make_batch([[50, 51, 52], [60]], answers.token_ids)
    scores = TokenScorer(reference, 1.0).score(policies[1], batch)
    assert scores.logprobs.isfinite().all()
    assert scores.full_kl.abs().max() < 1e-6
    full, _ = policies_of(tiny_llama_dir)
    assert (logits_of(full[0]) - logits_of(reference)).abs().max() > 1e-3


@pytest.fixture
def trained_adapter_dir(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    """An adapter as an earlier fine-tuning leaves it, away from its base."""
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"], r=3))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_training_starts_from_an_adapter(tiny_llama_dir: Path, trained_adapter_dir: Path) -> None:
    """Prevents a reference without the adapter: KL would start far from 0."""
    policies, reference = policies_of(trained_adapter_dir)
    initial = logits_of(reference)
    scores = TokenScorer(reference, 1.0).score(policies[0], BATCH)
    assert scores.full_kl.abs().max() < 1e-6
    base = LanguageModel(AutoModelForCausalLM.from_pretrained(tiny_llama_dir))
    assert (logits_of(base) - initial).abs().max() > 0.01
    for seed, policy in enumerate(policies):
        backward(policy)
        disturb(policy, seed)
    torch.testing.assert_close(logits_of(reference), initial, rtol=0, atol=0)
    assert not torch.equal(logits_of(policies[0]), logits_of(policies[1]))
    initial_adapter = [
        parameter for name, parameter in reference.model.named_parameters() if ".default." in name
    ]
    assert initial_adapter
    assert all(parameter.grad is None for parameter in initial_adapter)


def test_an_adapter_with_the_name_of_an_agent_is_refused(
    tiny_llama_dir: Path, trained_adapter_dir: Path
) -> None:
    """Prevents a reference that is trained: the agent and the reference would be one adapter."""
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    model = PeftModel.from_pretrained(base, trained_adapter_dir, adapter_name="agent_0")
    with pytest.raises(ValueError, match=r"adapter is called 'agent_0'.*another name"):
        build_policies(model, make_args())


def test_a_missing_pad_token_becomes_eos(tiny_gpt2_dir: Path) -> None:
    """Prevents GPT-2 from failing at the first padded batch."""
    tokenizer = load_tokenizer(str(tiny_gpt2_dir))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_an_existing_pad_token_is_kept(tiny_gpt2_dir: Path) -> None:
    """Prevents a tokenizer from being changed without need."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_gpt2_dir, pad_token="!")
    assert ensure_pad_token(tokenizer).pad_token == "!"


def test_a_tokenizer_without_pad_and_eos_is_refused(tiny_gpt2_dir: Path) -> None:
    """Prevents an error about None in the middle of a rollout."""
    tokenizer = load_tokenizer(str(tiny_gpt2_dir))
    tokenizer.pad_token = tokenizer.eos_token = None
    with pytest.raises(ValueError, match=r"neither a padding nor.*set tokenizer\.pad_token"):
        ensure_pad_token(tokenizer)


def test_unknown_models_are_named(tmp_path: Path, tiny_classifier_dir: Path) -> None:
    """Prevents a stack trace of the Hub client as the only hint."""
    missing = str(tmp_path / "no-such-model")
    with pytest.raises(ValueError, match=r"there is no directory .*no-such-model'"):
        load_model(missing, make_args())
    with pytest.raises(ValueError, match=r"there is no directory .*no-such-model"):
        load_tokenizer(missing)
    with pytest.raises(ValueError, match="tiny-classifier' cannot be loaded as a causal"):
        load_model(str(tiny_classifier_dir), make_args())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_models_have_the_configured_number_format(tiny_llama_dir: Path, dtype: str) -> None:
    """Prevents a checkpoint's own format from overriding `dtype`, and statistics in bfloat16."""
    policies, reference = policies_of(tiny_llama_dir, dtype=dtype)
    assert policies[0].model.dtype == reference.model.dtype == getattr(torch, dtype)
    scores = TokenScorer(reference, 1.0).score(policies[0], BATCH)
    assert scores.logprobs.dtype == scores.full_kl.dtype == scores.values.dtype == torch.float32


@pytest.mark.parametrize("settings", [{}, ADAPTERS], ids=["full", "adapters"])
@pytest.mark.parametrize("architecture", ["tiny_gpt2_dir", "tiny_llama_dir"])
def test_gradient_checkpointing_gives_the_same_gradients(
    request: pytest.FixtureRequest, architecture: str, settings: dict
) -> None:
    """Prevents recomputation with another agent's adapter, or none at all."""
    directory = request.getfixturevalue(architecture)
    gradients = []
    for is_checkpointed in (False, True):
        torch.manual_seed(0)
        policies, reference = policies_of(
            directory, gradient_checkpointing=is_checkpointed, **settings
        )
        for seed, policy in enumerate(policies):
            disturb(policy, seed)
        layers = count_attentions(policies[1])
        logits_of(policies[0])
        logits_of(reference)
        layers.clear()
        backward(policies[1])
        assert layers == ([0, 1, 1, 0] if is_checkpointed else [0, 1])
        gradients.append([weight.grad for weight in policies[1].trainable_parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def count_attentions(policy: Policy) -> list[int]:
    """A list that gets the number of a layer each time the layer attends."""
    calls: list[int] = []
    attentions = [
        module for module in policy.model.modules() if type(module).__name__.endswith("Attention")
    ]
    for index, attention in enumerate(attentions):
        attention.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    return calls


def test_gradient_checkpointing_keeps_the_cache(tiny_llama_dir: Path) -> None:
    """Prevents sampling that reads the whole prompt again for every token."""
    policies, _ = policies_of(tiny_llama_dir, gradient_checkpointing=True)
    widths: list[int] = []
    embedding = policies[0].model.get_input_embeddings()
    embedding.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    sampler = LocalSampler(frozenset(), rows_per_pass=2)
    checkpointed = sampler.generate(
        policies[0], [[50, 51, 52], [60]], 4, 1.0, torch.Generator().manual_seed(0)
    )
    assert widths == [3, 1, 1, 1]
    plain, _ = policies_of(tiny_llama_dir)
    answers = sampler.generate(
        plain[0], [[50, 51, 52], [60]], 4, 1.0, torch.Generator().manual_seed(0)
    )
    assert checkpointed.token_ids == answers.token_ids


def test_gradient_checkpointing_needs_layers_that_can() -> None:
    """Prevents a setting that silently does nothing."""
    with pytest.raises(ValueError, match=r"PreTrainedModel does not support it.*=False"):
        checkpoint_gradients(PreTrainedModel(PreTrainedConfig()))


def test_a_missing_library_is_no_damaged_file(tiny_gpt2_dir: Path) -> None:
    """Prevents "its files are damaged" for an attention that is not installed."""
    args = make_args(attn_implementation="flash_attention_2")
    with pytest.raises(ValueError, match="FlashAttention2 has been toggled on") as refused:
        load_model(str(tiny_gpt2_dir), args)
    assert "damaged" not in str(refused.value)
