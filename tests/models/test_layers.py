"""What costs less must be the same function, with the same gradient."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PreTrainedConfig,
    Qwen3MoeConfig,
)

from cory.models.batch import make_batch, pad_left
from cory.models.layers import (
    CACHEFUL,
    EXACT_ATTENTION,
    TanhGELU,
    hold_in_bfloat16,
    last_mlp,
    only_at,
    use_exact_attention,
    use_fast_gelu,
)
from cory.models.loading import build_policies, checkpoint_gradients, load_model
from cory.models.policy import LanguageModel
from tests.teams import ADAPTERS, make_args
from tests.tiny_models import TINY, tiny_model

BATCH = make_batch([[50, 51, 52, 53], [60], [70, 71]], [[80, 81], [90, 91, 92], [100]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gelu_is_the_one_of_torch(dtype: torch.dtype) -> None:
    """Prevents another activation than GPT-2's, also far from 0."""
    inputs = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e6, -90, 90, 1e6])])
    plain = inputs.to(dtype).requires_grad_()
    ours = inputs.to(dtype).requires_grad_()
    expected = nn.functional.gelu(plain, approximate="tanh")
    actual = TanhGELU()(ours)
    expected.sum().backward()
    actual.sum().backward()
    # One rounding of bfloat16 is 2⁻⁸.
    rtol = 2**-7 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-6)
    torch.testing.assert_close(ours.grad, plain.grad, rtol=rtol, atol=rtol)


def test_coarse_gelu_reads_every_piece_in_its_place() -> None:
    """Prevents pieces that are mixed up where they are many, or inputs that are not contiguous."""
    inputs = torch.randn(700, 300, dtype=torch.bfloat16).t().requires_grad_()
    assert inputs.numel() > 3 * CACHEFUL
    outputs = TanhGELU()(inputs)
    outputs.sum().backward()
    wide = inputs.detach().float().requires_grad_()
    expected = nn.functional.gelu(wide, approximate="tanh")
    expected.sum().backward()
    torch.testing.assert_close(outputs.float(), expected, rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(inputs.grad.float(), wide.grad, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("fixture", ["tiny_gpt2_dir", "tiny_llama_dir"])
def test_exact_attention_is_attention(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Prevents another mask or scale, a name in the saved config, and sums in bfloat16."""
    model = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(fixture)).eval()
    tokens, mask = pad_left([[50, 51, 52, 53], [60]])
    plain = model(input_ids=tokens, attention_mask=mask).logits[mask.bool()]
    use_exact_attention(model)
    assert model.config._attn_implementation == EXACT_ATTENTION
    torch.testing.assert_close(
        model(input_ids=tokens, attention_mask=mask).logits[mask.bool()], plain
    )
    seen: list[torch.dtype] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is nn.functional.scaled_dot_product_attention:
                seen.append(args[0].dtype)
            return function(*args, **kwargs or {})

    with Watch(), torch.autocast("cpu", torch.bfloat16):
        coarse = model(input_ids=tokens, attention_mask=mask).logits[mask.bool()]
    assert seen == [torch.float64] * model.config.num_hidden_layers
    assert coarse.dtype == torch.bfloat16
    assert 0 < (coarse - plain).abs().max() < 0.1
    model.save_pretrained(tmp_path)
    assert EXACT_ATTENTION not in (tmp_path / "config.json").read_text()


def states(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def test_padding_and_cache_change_no_bit_of_exact_attention() -> None:
    """Prevents first ratios off 1 under bf16: sampling pads on the left, and sees one column."""
    length, room, padding = 90, 7, 37
    attend = AttentionInterface()[EXACT_ATTENTION]
    module = nn.Module()
    module.num_key_value_groups, module.is_causal = 3, True
    query, key, value = (states(128, heads, length + room, 64, seed=heads) for heads in (9, 3, 3))
    whole, _ = attend(module, query, key, value, None)
    shown = torch.arange(padding + length) >= padding
    key, value = (
        torch.cat([states(128, 3, padding, 64, seed=5), known[:, :, :length]], dim=2)
        for known in (key, value)
    )
    last = query[:, :, length - 1 : length]
    alone, _ = attend(module, last, key, value, shown[None, None, None])
    assert torch.equal(alone[:, 0], whole[:, length - 1])
    plain, _ = AttentionInterface()["sdpa"](
        module, last.float(), key.float(), value.float(), shown[None, None, None]
    )
    torch.testing.assert_close(alone.float(), plain, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_of_exact_attention_is_that_of_attention(masked: bool) -> None:
    """Prevents a gradient of other inputs, and one that loses the mask or the scale."""
    module = nn.Module()
    module.num_key_value_groups, module.is_causal = 2, True
    mask = torch.randn(2, 1, 5, 5).where(torch.ones(5, 5).tril().bool(), -torch.inf)
    found = []
    for name in (EXACT_ATTENTION, "sdpa"):
        inputs = [states(2, heads, 5, 8, seed=heads).float() for heads in (4, 2, 2)]
        mask = mask.detach()
        leaves = [one.requires_grad_() for one in [*inputs, *([mask] if masked else [])]]
        output, _ = AttentionInterface()[name](
            module, *leaves[:3], mask if masked else None, scaling=0.7
        )
        found.append([output, *torch.autograd.grad(output.square().sum(), leaves)])
    for ours, plain in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_on_another_device_attention_is_that_of_torch() -> None:
    """Prevents float64 on a GPU, to which sharded weights go once they are prepared."""
    module = nn.Module()
    module.num_key_value_groups, module.is_causal = 2, True
    inputs = [torch.empty(2, heads, 5, 8, device="meta", requires_grad=True) for heads in (4, 2, 2)]
    output, _ = AttentionInterface()[EXACT_ATTENTION](module, *inputs, None)
    assert output.device.type == "meta"
    names = []
    node = output.grad_fn
    while node is not None:
        names.append(node.name())
        node = node.next_functions[0][0] if node.next_functions else None
    assert not any("Exact" in name for name in names)


def test_other_attention_is_left_alone(tiny_llama_dir: Path) -> None:
    """Prevents a user's choice of attention from being overruled."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, attn_implementation="eager")
    use_exact_attention(model)
    assert model.config._attn_implementation == "eager"


def test_fast_gelu_changes_nothing_that_matters(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents another activation than GPT-2's in the logits or in the saved config."""
    plain = GPT2LMHeadModel.from_pretrained(tiny_gpt2_dir)
    fast = GPT2LMHeadModel.from_pretrained(tiny_gpt2_dir)
    use_fast_gelu(fast)
    assert sum(isinstance(module, TanhGELU) for module in fast.modules()) == 2
    difference = plain(BATCH.input_ids).logits - fast(BATCH.input_ids).logits
    assert difference.abs().max() < 1e-5
    fast.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["activation_function"] == "gelu_new"
    saved = GPT2LMHeadModel.from_pretrained(tmp_path).state_dict()
    assert saved.keys() == plain.state_dict().keys()


@pytest.mark.parametrize("fixture", ["tiny_gpt2_dir", "tiny_llama_dir"])
def test_frozen_layers_in_bfloat16_change_no_bit(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    """Prevents rounding of what autocast does not round, and of weights that are trained."""
    name, args = str(request.getfixturevalue(fixture)), make_args(bf16=True, **ADAPTERS)
    policies, reference = build_policies(load_model(name, args), args)
    trained = [weight for policy in policies for weight in policy.language_parameters()]
    for weight in trained:
        nn.init.normal_(weight, std=0.3)

    def everything() -> list[Tensor]:
        found = []
        for policy in policies:
            hidden = policy.response_hidden(BATCH)
            logprobs = policy.logprobs(hidden, BATCH.response_tokens, 1.0)
            gradients = torch.autograd.grad(logprobs.sum(), policy.language_parameters())
            found += [hidden, logprobs, policy.logits(hidden, 1.0), *gradients]
        return [*found, reference.response_hidden(BATCH)]

    before = everything()
    hold_in_bfloat16(reference.model, trained)
    formats = {name: weight.dtype for name, weight in reference.model.named_parameters()}
    halved = {name for name, dtype in formats.items() if dtype == torch.bfloat16}
    assert halved
    assert all("base_layer" in name or name == "lm_head.weight" for name in halved)
    assert reference.model.dtype == torch.float32
    for old, new in zip(before, everything(), strict=True):
        assert torch.equal(old, new)


def gradients_of(model: LanguageModel, hidden: Tensor) -> dict[str, Tensor | None]:
    model.model.zero_grad()
    hidden.square().sum().backward()
    return {name: weight.grad for name, weight in model.model.named_parameters()}


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=128, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        LlamaConfig(**TINY),
        Gemma2Config(**TINY, head_dim=8),
        FalconConfig(**TINY),
        MixtralConfig(**TINY, num_local_experts=4),
        Qwen3MoeConfig(**TINY, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2),
        OPTConfig(**TINY, ffn_dim=64, word_embed_proj_dim=32),
    ],
    ids=lambda config: config.model_type,
)
def test_the_last_mlp_is_needed_at_responses_only(config: PreTrainedConfig) -> None:
    """Prevents an architecture in which leaving positions out changes the others."""
    model = LanguageModel(tiny_model(config))
    everywhere = model.hidden_states(BATCH.input_ids[:, :-1])[BATCH.predicts_response]
    expected = gradients_of(model, everywhere)
    model.narrows_last_mlp = True
    narrowed = model.response_hidden(BATCH)
    torch.testing.assert_close(narrowed, everywhere, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients_of(model, narrowed), expected, rtol=1e-3, atol=1e-4)


def test_the_last_mlp_sees_the_response_alone() -> None:
    """Prevents a saving that does not happen, and hooks that stay behind."""
    model = LanguageModel(tiny_model(LlamaConfig(**TINY)))
    model.narrows_last_mlp = True
    mlp = last_mlp(model.model)
    assert mlp is not None
    seen: list[int] = []
    mlp.down_proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel() // 64))
    model.response_hidden(BATCH)
    model.hidden_states(BATCH.input_ids)
    assert seen == [BATCH.num_tokens, BATCH.input_ids.numel()]


def test_other_threads_keep_their_positions() -> None:
    """Prevents a pass from being narrowed to what another thread has chosen meanwhile."""
    layer, inputs = nn.Linear(2, 2), torch.ones(1, 2, 2)
    with ThreadPoolExecutor(1) as other, only_at(layer, torch.tensor([[True, False]])):
        elsewhere = other.submit(layer, inputs).result()
        here = layer(inputs)
    assert torch.equal(elsewhere, layer(inputs))
    assert torch.equal(here[0, 0], elsewhere[0, 0])
    assert not here[0, 1].any()


def test_recomputed_layers_are_left_alone() -> None:
    """Prevents a backward pass that recomputes other shapes than the forward pass had."""
    model = LanguageModel(tiny_model(LlamaConfig(**TINY)))
    expected = gradients_of(model, model.response_hidden(BATCH))
    checkpoint_gradients(model.model)
    assert last_mlp(model.model) is None
    torch.testing.assert_close(gradients_of(model, model.response_hidden(BATCH)), expected)


def test_no_module_is_no_change() -> None:
    """Prevents a model without a known MLP from being refused."""
    assert last_mlp(nn.Linear(2, 2)) is None
    with only_at(None, torch.ones(1, 1, dtype=torch.bool)):
        pass


def test_hooks_go_when_the_pass_fails() -> None:
    """Prevents a failed pass from narrowing the next one."""
    layer = nn.Linear(2, 2)
    with pytest.raises(KeyError), only_at(layer, torch.tensor([[True, False]])):
        raise KeyError
    assert layer(torch.ones(1, 2, 2))[0, 1].abs().sum() > 0
