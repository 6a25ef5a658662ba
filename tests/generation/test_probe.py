"""Models and adapters are driven right, or refused before the first iteration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LNTuningConfig, LoKrConfig, LoraConfig, PeftConfig, VeraConfig
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2LMHeadModel,
    GptOssConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MixtralConfig,
    OpenAIGPTConfig,
    PreTrainedConfig,
)

from cory.generation import mixed_adapters
from cory.generation.decoding import RoomyLayer
from cory.generation.mixed_adapters import MixedAdapters, can_be_mixed
from cory.generation.probe import error_of, largest_error, probe_models
from cory.models.loading import build_policies
from cory.models.policy import LanguageModel, Policy
from tests.models.test_loading import backward, logits_of, policies_of
from tests.teams import ADAPTERS, disturb, make_args
from tests.tiny_models import TINY, tiny_model

TOKENS = list(range(50, 70))
LORA: dict[str, Any] = {"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
LLAMA, MIXTRAL = LlamaConfig(**TINY), MixtralConfig(**TINY, num_local_experts=4)
LLAMA_WITH_BIAS = LlamaConfig(**TINY, attention_bias=True)
GPT_OSS = {"num_local_experts": 4, "head_dim": 8, "sliding_window": 5, "num_experts_per_tok": 2}


def built(
    config: PreTrainedConfig, peft_config: PeftConfig | None = None, **settings: Any
) -> tuple[list[Policy], LanguageModel]:
    return build_policies(tiny_model(config), make_args(**settings), peft_config)


@pytest.mark.parametrize(
    ("config", "narrows"),
    [
        (LLAMA, True),
        (MIXTRAL, True),
        (GptOssConfig(**TINY, **GPT_OSS), False),
        (BloomConfig(vocab_size=128, hidden_size=32, n_layer=2, n_head=4), False),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_a_shortcut_that_does_not_apply_is_left_out(config: Any, narrows: bool) -> None:
    """Prevents an AttributeError where an MLP takes or gives more than one tensor."""
    policies, reference = built(config)
    probe_models(policies, reference, TOKENS, 64)
    assert {model.narrows_last_mlp for model in (*policies, reference)} == {narrows}
    backward(policies[0])


class SquaringModel(GPT2LMHeadModel):
    """An architecture that does something unheard of to its logits."""

    def forward(self, *arguments, **options):
        output = super().forward(*arguments, **options)
        output.logits = output.logits.square()
        return output


def openai_gpt() -> OpenAIGPTConfig:
    return OpenAIGPTConfig(vocab_size=128, n_embd=32, n_layer=2, n_head=4, n_positions=64)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            MambaConfig(vocab_size=128, hidden_size=32, num_hidden_layers=2, state_size=8),
            r"MambaForCausalLM",
        ),
        (Llama4TextConfig(**TINY, num_local_experts=4), r"Llama4.* cannot be driven by cory"),
        (openai_gpt(), r"OpenAIGPTLMHeadModel cannot be driven by cory"),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_an_architecture_that_is_driven_wrongly_is_refused(config: Any, reason: str) -> None:
    """Prevents training on answers from another distribution, and obscure errors."""
    with pytest.raises(ValueError, match=rf"{reason}.*docs/reference/architectures\.md"):
        probe_models(*built(config), TOKENS, 64)


def test_an_unknown_head_is_refused(tiny_gpt2_dir: Path) -> None:
    """Prevents silent training on log-probabilities that are not the model's."""
    model = SquaringModel.from_pretrained(tiny_gpt2_dir)
    with pytest.raises(ValueError, match=r"SquaringModel .*postprocess_logits"):
        probe_models(*build_policies(model, make_args()), TOKENS)


def positions_forgotten(options: dict[str, Any]) -> None:
    """Each token behind the prompt is taken for the first."""
    cache = options["past_key_values"]
    if cache is not None and cache.get_seq_length():
        options["position_ids"] = torch.zeros_like(options["position_ids"])


def padding_read(options: dict[str, Any]) -> None:
    """Padding on the left is taken for text; no effect without padding."""
    if options["attention_mask"] is not None:
        options["attention_mask"] = torch.ones_like(options["attention_mask"])


def batches_shifted(options: dict[str, Any]) -> None:
    """Sequences that are scored together begin at another position."""
    if options["past_key_values"] is None and len(options["input_ids"]) > 1:
        options["position_ids"] = torch.arange(1, 1 + options["input_ids"].shape[1])[None]


SAMPLED = r"sampled with a cache of keys and values and padded on the left"
SCORED = r"scored with padding on the right"


@pytest.mark.parametrize(
    ("fault", "reason", "samples_here"),
    [
        (positions_forgotten, SAMPLED, True),
        (padding_read, SAMPLED, True),
        (batches_shifted, SCORED, True),
        (batches_shifted, SCORED, False),
    ],
)
def test_each_path_is_probed(
    tiny_gpt2_dir: Path, fault: Any, reason: str, samples_here: bool
) -> None:
    """Prevents a part of the probe that sees nothing: these faults are seen on one path alone."""
    policies, reference = policies_of(tiny_gpt2_dir)

    def change(_: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if not arguments:  # GPT-2's own plain pass gives its body the tokens by place.
            fault(options)
        return arguments, options

    policies[0].model.base_model.register_forward_pre_hook(change, with_kwargs=True)
    with pytest.raises(ValueError, match=rf"GPT2LMHeadModel is not computed right: {reason}"):
        probe_models(policies, reference, TOKENS, samples_here=samples_here)


def test_a_prompt_that_is_answered_twice_is_probed(
    tiny_gpt2_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a cache that cannot give a row to two answers, as `num_generations` asks."""

    def reorder(layer: RoomyLayer, rows: torch.Tensor) -> None:
        layer.key_buffer = layer.key_buffer[rows]
        layer.value_buffer = layer.value_buffer[rows.flip(0).roll(1)]
        layer._look_at(layer.get_seq_length())

    monkeypatch.setattr(RoomyLayer, "reorder_cache", reorder)
    with pytest.raises(ValueError, match=SAMPLED):
        probe_models(*policies_of(tiny_gpt2_dir), TOKENS)


def test_agents_are_probed_in_one_batch(
    tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a second agent that answers with the first one's adapter, seen in no other batch."""
    policies, reference = policies_of(tiny_llama_dir, **ADAPTERS)
    in_order = MixedAdapters.sampling

    def sampling(mixed: MixedAdapters) -> Any:
        mixed.names = [mixed.names[0]] * len(mixed.names)
        return in_order(mixed)

    monkeypatch.setattr(MixedAdapters, "sampling", sampling)
    with pytest.raises(ValueError, match=SAMPLED):
        probe_models(policies, reference, TOKENS)


def test_a_reference_that_follows_an_agent_is_refused(tiny_llama_dir: Path) -> None:
    """Prevents a KL of 0 for ever: adapters that cannot be switched off."""
    policies, reference = policies_of(tiny_llama_dir, **ADAPTERS)
    reference.activate = policies[0].activate
    with pytest.raises(ValueError, match="as the reference beside trained adapters"):
        probe_models(policies, reference, TOKENS)


def test_weights_that_overflow_are_named(tiny_gpt2_dir: Path) -> None:
    """Prevents nan from the first iteration on, of weights that were saved as nan."""
    policies, reference = policies_of(tiny_gpt2_dir)
    policies[0].model.transformer.h[0].mlp.c_fc.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"gives nan for plain text: its weights are damaged"):
        probe_models(policies, reference, TOKENS)


def test_nothing_is_computed_twice(tiny_llama_dir: Path) -> None:
    """Prevents a start that takes seconds on a real model: the passes of a team of two adapters."""
    policies, reference = policies_of(tiny_llama_dir, **ADAPTERS)
    passes: list[tuple[int, ...]] = []
    reference.model.base_model.register_forward_pre_hook(
        lambda _, __, options: passes.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    probe_models(policies, reference, TOKENS)
    start = [(1, 12)] * 5  # agents, the first one's body, the reference before and after
    sampled = [(4, 12), *[(6, 1)] * 4]  # both agents in one batch, equal prompts read once
    plain = [(1, 17), (1, 10), (1, 17)] * 2
    assert passes == [*start, *sampled, *plain, (3, 16)]


@pytest.mark.parametrize("tokens", [[5], [5, 6], TOKENS], ids=len)
@pytest.mark.parametrize("context_length", [None, 8, 64])
def test_any_text_and_any_context_will_do(
    tiny_gpt2_dir: Path, tokens: list[int], context_length: int | None
) -> None:
    """Prevents a probe that needs more text, or more context, than there is."""
    probe_models(*policies_of(tiny_gpt2_dir), tokens, context_length)


@pytest.mark.parametrize(
    "settings",
    [{"bf16": True}, {**ADAPTERS, "dtype": "bfloat16"}, {**ADAPTERS, "load_in_4bit": True}],
    ids=["bf16", "bfloat16", "4bit"],
)
def test_rounding_is_no_fault(tiny_llama_dir: Path, settings: dict[str, Any]) -> None:
    """Prevents number formats from being taken for another model."""
    probe_models(*policies_of(tiny_llama_dir, **settings), TOKENS)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        (ADAPTERS, True),
        ({"bf16": True}, True),
        ({**ADAPTERS, "bf16": True}, True),
        ({"bf16": True, "attn_implementation": "eager"}, False),
        ({**ADAPTERS, "dtype": "bfloat16"}, False),
        ({**ADAPTERS, "load_in_4bit": True}, False),
    ],
)
def test_where_sampling_stands_for_a_scoring_pass(
    tiny_llama_dir: Path, settings: dict[str, Any], expected: bool
) -> None:
    """Prevents first ratios off 1, and a scoring pass that finds nothing new."""
    policies, reference = policies_of(tiny_llama_dir, **settings)
    probe_models(policies, reference, TOKENS)
    assert [model.samples_as_scored for model in (*policies, reference)] == [expected] * 3


def test_another_sampling_does_not_stand_for_scoring(tiny_llama_dir: Path) -> None:
    """Prevents old log-probabilities from a sampling that is only nearly right."""
    policies, reference = policies_of(tiny_llama_dir)
    model = policies[0].model
    rotary = model.model.rotary_emb
    plain = rotary.forward

    def decoding_is_off(hidden: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = plain(hidden, position_ids)
        return (cos * 1.0005, sin) if hidden.shape[1] == 1 else (cos, sin)

    rotary.forward = decoding_is_off
    probe_models(policies, reference, TOKENS)
    assert not policies[0].samples_as_scored


def test_an_error_is_a_share_of_the_spread() -> None:
    """Prevents a limit that depends on how sure a model is: half the scale, the same error."""
    plain, other = torch.randn(2, 5, 100).mul(3).log_softmax(-1)
    assert error_of(plain, plain) == 0
    assert 1.2 < error_of(other, plain) < 1.6
    assert error_of(other / 2, plain / 2) == pytest.approx(error_of(other, plain), rel=1e-5)
    assert not error_of(plain * torch.nan, plain) <= 1


ADAPTER_KINDS: dict[str, tuple[PreTrainedConfig, PeftConfig, bool]] = {
    "plain": (LLAMA, LoraConfig(**LORA), True),
    "experts' neighbour": (MIXTRAL, LoraConfig(**LORA), True),
    "experts": (MIXTRAL, LoraConfig(**{**LORA, "target_modules": "all-linear"}), False),
    "one parameter": (MIXTRAL, LoraConfig(**LORA, target_parameters=["gate_up_proj"]), False),
    "tokens": (LLAMA, LoraConfig(**LORA, trainable_token_indices=[50, 51, 60]), False),
    "head": (LLAMA, LoraConfig(**LORA, modules_to_save=["lm_head"]), False),
    "dora": (LLAMA, LoraConfig(**LORA, use_dora=True), False),
    "biased": (LLAMA_WITH_BIAS, LoraConfig(**LORA, lora_bias=True), False),
    "ia3": (
        LLAMA,
        IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
        False,
    ),
    "vera": (LLAMA, VeraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"), False),
    "lokr": (LLAMA, LoKrConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"), False),
    "norms": (LLAMA, LNTuningConfig(target_modules=["norm"], task_type="CAUSAL_LM"), False),
}


@pytest.mark.filterwarnings("ignore:Adapter .agent_0.")
@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")
@pytest.mark.parametrize("kind", ADAPTER_KINDS)
def test_adapters_are_each_agents_own(kind: str) -> None:
    """Prevents agents that use, or train, each other's weights; mixed only where plain LoRA."""
    config, peft_config, is_plain = ADAPTER_KINDS[kind]
    policies, reference = built(config, peft_config)
    assert can_be_mixed(policies) == is_plain
    weights = [weight.detach().clone() for weight in policies[0].language_parameters()]
    probe_models(policies, reference, TOKENS, 64)
    for weight, before in zip(policies[0].language_parameters(), weights, strict=True):
        assert torch.equal(weight, before)
    initial = logits_of(reference)
    disturb(policies[1], seed=0)
    assert (logits_of(policies[1]) - initial).abs().max() > 0.01
    for unmoved in (policies[0], reference):
        torch.testing.assert_close(logits_of(unmoved), initial, rtol=0, atol=1e-6)
    logits_of(policies[0])
    backward(policies[0])
    trained = [
        name for name, weight in reference.model.named_parameters() if weight.grad is not None
    ]
    assert trained
    assert all(policies[0].weights.owns(name) for name in trained)


@pytest.mark.parametrize("init", ["pissa", "olora", False])
def test_adapters_that_change_the_model_at_once_are_refused(init: Any) -> None:
    """Prevents a reference that is not the initial model: KL would start far from 0."""
    policies, reference = built(LLAMA, LoraConfig(**LORA, init_lora_weights=init))
    with pytest.raises(ValueError, match=r"with a new adapter, which must change nothing"):
        probe_models(policies, reference, TOKENS, 64)


def test_adapters_that_are_mixed_up_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an agent that answers with its neighbour's embeddings, were they mixed."""
    monkeypatch.setattr(mixed_adapters, "beyond_plain_lora", lambda *_: {})
    for options in ({"trainable_token_indices": [50, 51, 60]}, {"modules_to_save": ["lm_head"]}):
        policies, reference = built(LLAMA, LoraConfig(**LORA, **options))
        assert can_be_mixed(policies)
        with pytest.raises(ValueError, match=r"LlamaForCausalLM is not .*sampled"):
            probe_models(policies, reference, TOKENS, 64)


def test_number_formats_decide_what_is_allowed(tiny_llama_dir: Path) -> None:
    """Prevents a limit for 16 bits where numbers have 32, which would let architectures through."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    assert largest_error(LanguageModel(model)) < 0.01
    assert largest_error(LanguageModel(model, bf16=True)) > 0.1
    assert largest_error(LanguageModel(model.bfloat16())) > 0.1
