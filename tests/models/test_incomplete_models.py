"""Checkpoints that are damaged, incomplete, or of something else are refused in one message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
)

from cory.models.loading import build_policies, load_model, load_tokenizer
from cory.models.weights import FullCopy
from cory.rewards.loading import load_reward_funcs
from tests.teams import ADAPTERS, make_args
from tests.tiny_models import TINY, tiny_model

Damage = Callable[[Path], object]


def without(*names: str) -> Damage:
    """Weights are missing."""

    def damage(directory: Path) -> None:
        path = next(directory.glob("*.safetensors"))
        weights = load_file(path)
        kept = {name: weights[name] for name in weights if not name.endswith(names)}
        assert len(kept) < len(weights)
        save_file(kept, path, metadata={"format": "pt"})

    return damage


def narrowed(name: str) -> Damage:
    """A weight is smaller than the settings say."""

    def damage(directory: Path) -> None:
        path = directory / "model.safetensors"
        weights = load_file(path)
        weights[name] = weights[name][:5].clone()
        save_file(weights, path, metadata={"format": "pt"})

    return damage


def truncated(name: str) -> Damage:
    """A file was cut off."""

    def damage(directory: Path) -> None:
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: len(content) // 2])

    return damage


def holds(name: str, text: str) -> Damage:
    """A file has another content."""
    return lambda directory: (directory / name).write_text(text)


def says(**options: object) -> Damage:
    """The adapter's settings have other values."""

    def damage(directory: Path) -> None:
        path = directory / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | options))

    return damage


def rounded(name: str) -> Damage:
    """A weight is stored as integers."""

    def damage(directory: Path) -> None:
        path = directory / "model.safetensors"
        weights = load_file(path)
        save_file(weights | {name: weights[name].int()}, path, metadata={"format": "pt"})

    return damage


def configured(**options: object) -> Damage:
    """The model's settings have other values."""

    def damage(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | options))

    return damage


MODELS: dict[str, tuple[Damage, str]] = {
    "fewer layers": (configured(n_layer=1), r"has transformer\.h\.1\..*the model .* no place"),
    "no layers": (configured(n_layer=0), r"num_hidden_layers=0 .*config\.json of these weights"),
    "endless layers": (configured(n_layer=10**9), r"num_hidden_layers=1000000000 .*67840 numbers"),
    "another type": (
        configured(model_type="llama"),
        r"intermediate_size=11008 and hidden_size=4096",
    ),
    "integers": (rounded("transformer.h.0.mlp.c_fc.weight"), r"c_fc\.weight holds integers"),
    "no text": (
        lambda directory: (directory / "config.json").write_bytes(b"\xff\xfe"),
        r"config\.json must hold a JSON object",
    ),
    "half a generation config": (
        holds("generation_config.json", "{"),
        r"generation_config\.json must hold a JSON object",
    ),
    "no positions": (without("wpe.weight"), r"lacks 1 weights, .*: transformer\.wpe\.weight\. Use"),
    "half an MLP": (without("h.0.mlp.c_fc.weight"), r"lacks 1 .*transformer\.h\.0\.mlp\.c_fc"),
    "no norms": (without("ln_1.weight", "ln_1.bias"), r"lacks 4 weights, .*h\.0\.ln_1\.bias"),
    "narrow": (narrowed("transformer.wpe.weight"), r"wpe\.weight as \(5, 32\), .*\(1024, 32\)"),
    "truncated": (truncated("model.safetensors"), r"files are damaged.*SafetensorError"),
    "empty": (holds("model.safetensors", ""), r"files are damaged.*SafetensorError"),
    "a list": (holds("config.json", "[]"), r"config\.json must hold a JSON object, not '\[\]'"),
    "half a list": (holds("config.json", "["), r"config\.json must hold a JSON object"),
    "nothing": (holds("config.json", "{}"), r"Unrecognized model"),
    "unheard of": (holds("config.json", '{"model_type": "x"}'), r"does not recognize"),
    "untyped": (holds("config.json", '{"model_type": "gpt2", "n_embd": "x"}'), r"n_embd"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_damaged_model_is_refused(tiny_gpt2_dir: Path, tmp_path: Path, kind: str) -> None:
    """Prevents training on random weights, and a library's stack trace."""
    damage, message = MODELS[kind]
    model = shutil.copytree(tiny_gpt2_dir, tmp_path / "model")
    damage(model)
    with pytest.raises(ValueError, match=rf"model' cannot be loaded as a causal .*{message}"):
        load_model(str(model), make_args())


def test_tied_weights_are_not_missing(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the refusal of GPT-2, whose head is its embedding, or of weights that are extra."""
    assert "lm_head.weight" not in load_file(tiny_gpt2_dir / "model.safetensors")
    model = shutil.copytree(tiny_gpt2_dir, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    extra = {"score.weight": weights["transformer.wte.weight"][:2].clone()}
    save_file(weights | extra, model / "model.safetensors", metadata={"format": "pt"})
    load_model(str(model), make_args())


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"model_max_length": "x"}, "files are damaged"), ({"eos_token": ["a"]}, "files are damaged")],
)
def test_a_tokenizer_that_cannot_be_used_is_refused(
    tiny_gpt2_dir: Path, tmp_path: Path, config: dict[str, object], reason: str
) -> None:
    """Prevents a TypeError at the first text."""
    model = shutil.copytree(tiny_gpt2_dir, tmp_path / "model")
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(ValueError, match=rf"no tokenizer can be loaded from .*{reason}"):
        load_tokenizer(str(model))


def test_a_tokenizer_without_tokens_is_refused(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the advice to drop empty queries, where the tokenizer's files are not there."""
    model = shutil.copytree(tiny_gpt2_dir, tmp_path / "model")
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"it has no token for any letter"):
        load_tokenizer(str(model))


@pytest.mark.parametrize("text", ["{}", "[]", "null", "{", '"x"'])
def test_a_damaged_tokenizer_is_refused(tiny_gpt2_dir: Path, tmp_path: Path, text: str) -> None:
    """Prevents a KeyError about the inside of a file."""
    model = shutil.copytree(tiny_gpt2_dir, tmp_path / "model")
    (model / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=r"no tokenizer can be loaded from .*or save it again"):
        load_tokenizer(str(model))


ADAPTER_FAULTS: dict[str, tuple[Damage, str]] = {
    "unknown": (says(peft_type="NOPE"), r"files are damaged, or of a kind .*'NOPE'"),
    "list": (holds("adapter_config.json", "[]"), r"adapter_config\.json must hold a JSON object"),
    "no base": (says(base_model_name_or_path=None), r"names no base_model_name_or_path"),
    "other rank": (says(r=5), r"size mismatch"),
    "more layers": (says(target_modules=["q_proj", "v_proj"]), r"it has no .*v_proj\.lora_A"),
    "incomplete": (without("0.self_attn.q_proj.lora_A.weight"), r"it has no .*q_proj\.lora_A"),
    "truncated": (truncated("adapter_model.safetensors"), r"files are damaged.*Safetensor"),
    "gone": (
        lambda directory: (directory / "adapter_model.safetensors").unlink(),
        r"no adapter_model\.safetensors",
    ),
}


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
@pytest.mark.parametrize("kind", ADAPTER_FAULTS)
def test_a_damaged_adapter_is_refused(tiny_llama_dir: Path, tmp_path: Path, kind: str) -> None:
    """The same of adapters, of which peft makes up what is not there."""
    damage, message = ADAPTER_FAULTS[kind]
    base = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    config = LoraConfig(r=3, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    damage(tmp_path / "adapter")
    with pytest.raises(ValueError, match=rf"cannot be loaded as a causal .*{message}"):
        load_model(str(tmp_path / "adapter"), make_args())


def lora(**options: object) -> LoraConfig:
    return LoraConfig(**{"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | options)


CHANGES: dict[str, tuple[LoraConfig | None, LoraConfig | None, str]] = {
    "same shape": (lora(), lora(target_modules=["o_proj"]), r"it has no .*o_proj\.lora_A"),
    "more layers": (lora(), lora(target_modules=["q_proj", "o_proj"]), r"it has no .*o_proj"),
    "fewer layers": (lora(target_modules=["q_proj", "o_proj"]), lora(), r"o_proj.*not asked for"),
    "rank": (lora(), lora(r=3), r"its r is 4, and not 3"),
    "scale": (lora(), lora(lora_alpha=99), r"its lora_alpha is 8, and not 99"),
    "another scale": (lora(), lora(use_rslora=True), r"its use_rslora is False, and not True"),
    "from full copies": (None, lora(), r"holds no adapter, but this run trains adapters"),
    "to full copies": (lora(), None, r"holds an adapter, but this run trains full copies"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_of_another_kind_is_refused(
    tiny_llama_dir: Path, tmp_path: Path, change: str
) -> None:
    """Prevents a resumed run that goes on with weights that mean something else."""
    before, after, message = CHANGES[change]
    args = make_args(tiny_llama_dir)
    model = str(tiny_llama_dir)
    saved, resumed = (
        build_policies(load_model(model, args), args, config)[0][0].weights
        for config in (before, after)
    )
    saved.save(tmp_path / "agent_0")
    with pytest.raises(ValueError, match=message):
        resumed.load(tmp_path / "agent_0")


@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["lm_head"]}, {"use_dora": True}])
def test_a_checkpoint_of_the_same_kind_is_taken(
    tiny_llama_dir: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    """Prevents a comparison that refuses what was saved a moment ago."""
    args = make_args(tiny_llama_dir)
    policies, _ = build_policies(load_model(str(tiny_llama_dir), args), args, lora(**options))
    policies[0].weights.save(tmp_path / "agent_0")
    policies[1].weights.load(tmp_path / "agent_0")


def test_another_model_of_the_same_kind_is_refused(tmp_path: Path) -> None:
    """Prevents weights that are made up, or a stack trace, where layers are more or wider."""
    FullCopy(tiny_model(LlamaConfig(**TINY))).save(tmp_path)
    deeper = FullCopy(tiny_model(LlamaConfig(**TINY | {"num_hidden_layers": 3})))
    wider = FullCopy(tiny_model(LlamaConfig(**TINY | {"hidden_size": 64})))
    with pytest.raises(ValueError, match=r"another architecture: .*lacks 9 weights"):
        deeper.load(tmp_path)
    with pytest.raises(ValueError, match=r"another architecture: .*\(128, 32\), .*\(128, 64\)"):
        wider.load(tmp_path)


REFUSED: dict[str, tuple[LoraConfig, str]] = {
    "no effect": (lora(lora_alpha=0), r"lora_alpha=0 takes an adapter's effect away"),
    "another task": (lora(task_type="SEQ_CLS"), r"task_type='SEQ_CLS' is of another kind"),
    "no token": (lora(trainable_token_indices=[9999]), r"cannot get adapters .*IndexError"),
    "biases": (lora(bias="all"), r"bias='all' trains biases of the base, which all agents share"),
    "their own": (lora(bias="lora_only"), r"bias='lora_only' trains biases of the base"),
    "on invocation": (lora(alora_invocation_tokens=[5]), r"alora_invocation_tokens.*not trained"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_adapters_that_agents_cannot_own_are_refused(tiny_llama_dir: Path, kind: str) -> None:
    """Prevents options that train nothing, or what every agent uses."""
    config, message = REFUSED[kind]
    args = make_args(tiny_llama_dir, num_agents=1)
    with pytest.raises(ValueError, match=message):
        build_policies(load_model(str(tiny_llama_dir), args), args, config)


def test_what_is_frozen_stays_frozen(tiny_gpt2_dir: Path) -> None:
    """Prevents layers that the user froze from being trained, and a team that trains nothing."""
    model = AutoModelForCausalLM.from_pretrained(tiny_gpt2_dir)
    for weight in model.transformer.h[0].parameters():
        weight.requires_grad_(False)
    policies, _ = build_policies(model, make_args())
    trained = {id(weight) for weight in policies[0].trainable_parameters()}
    frozen = list(policies[0].model.transformer.h[0].parameters())
    assert trained
    assert trained.isdisjoint(map(id, frozen))
    assert not any(weight.requires_grad for weight in frozen)
    again, _ = build_policies(model, make_args())
    assert len(again[0].trainable_parameters()) == len(policies[0].trainable_parameters())
    with pytest.raises(ValueError, match="every weight of the model is frozen"):
        build_policies(model.requires_grad_(False), make_args())


def test_a_model_object_says_itself_what_its_format_is(tiny_llama_dir: Path) -> None:
    """Prevents first ratios off by .03 where an object is bfloat16, and the setting is not."""
    for settings in ({}, {"dtype": "bfloat16"}):
        model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype="bfloat16")
        policies, _ = build_policies(model, make_args(**ADAPTERS, **settings))
        assert policies[0].model.config._attn_implementation == "sdpa_exact"
        assert {weight.dtype for weight in policies[0].trainable_parameters()} == {torch.float32}


def test_a_model_without_a_head_is_refused(tiny_gpt2_dir: Path) -> None:
    """Prevents an AttributeError about None where a body or a classifier is passed."""
    for kind in (AutoModel, AutoModelForSequenceClassification):
        model = kind.from_pretrained(tiny_gpt2_dir)
        with pytest.raises(ValueError, match="has no head that gives logits of tokens"):
            build_policies(model, make_args())


@pytest.mark.parametrize("kind", ["truncated", "a list"])
def test_a_damaged_reward_model_is_refused(
    tiny_classifier_dir: Path, tmp_path: Path, kind: str
) -> None:
    """The same of reward models."""
    model = shutil.copytree(tiny_classifier_dir, tmp_path / "model")
    MODELS[kind][0](model)
    with pytest.raises(ValueError, match=r"no sequence-classification model could be loaded"):
        load_reward_funcs(str(model))
    shutil.copy(tiny_classifier_dir / "model.safetensors", model)
    shutil.copy(tiny_classifier_dir / "config.json", model)
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no tokenizer that can be loaded"):
        load_reward_funcs(str(model))
