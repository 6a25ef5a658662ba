"""The same answers in fixed shapes, and no look at a value on the way."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
)

from cory.generation import cuda_graph as fixed_decoding
from cory.generation import decoding as growing_decoding
from cory.generation.cuda_graph import (
    FixedAnswers,
    FixedDecoding,
    Replayed,
    can_have_fixed_shapes,
    has_fixed_shapes,
)
from cory.generation.local import Answers, LocalSampler, sample_tokens
from cory.models.policy import LanguageModel
from cory.training.setup import RunComponents
from tests.teams import ADAPTERS, QUERIES, disturb, make_team
from tests.tiny_models import TINY, tiny_model

SETTINGS = {
    "gpt2": ("tiny_gpt2_dir", {}),
    "llama": ("tiny_llama_dir", {}),
    "llama-adapters": ("tiny_llama_dir", ADAPTERS),
    "gpt2-bf16": ("tiny_gpt2_dir", {"bf16": True}),
}
LENGTH = 40
# Many of them let the rows finish one after the other.
END_IDS = frozenset(range(0, 300, 5))
# Operations whose result, or whose shape, the host must know before it can go on.
LOOKS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique"}


@pytest.fixture(scope="module", params=SETTINGS)
def team(request: pytest.FixtureRequest) -> RunComponents:
    fixture, settings = SETTINGS[request.param]
    team = make_team(request.getfixturevalue(fixture), **settings)
    for index, policy in enumerate(team.policies):
        disturb(policy, seed=index)
    return team


@pytest.fixture
def fixed_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_decoding, "FIXED_SHAPES_ON", {"cpu"})


def generate(
    policy: LanguageModel,
    prompts: list[list[int]],
    temperature: float,
    rows_per_pass: int = 100,
    end_ids: frozenset[int] = END_IDS,
    length: int = LENGTH,
) -> Answers:
    generator = torch.Generator(policy.device).manual_seed(0)
    sampler = LocalSampler(end_ids, rows_per_pass)
    return sampler.generate(policy, prompts, length, temperature, generator)


def prompts_of(team: RunComponents) -> list[list[int]]:
    return [team.encoder.encode(query, []) for query in QUERIES]


@pytest.mark.parametrize("rows_per_pass", [100, 7])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_those_of_growing_shapes(
    team: RunComponents,
    temperature: float,
    rows_per_pass: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prevents masks, columns or positions that are off by one, and prompts read by others' rows.

    Prompts are ragged, so padded on the left, and come three times, so that their prefill is
    shared; rows end at different times.
    """
    policy = team.policies[1]
    prompts = [prompt for prompt in prompts_of(team) for _ in range(3)]
    growing = generate(policy, prompts, temperature, rows_per_pass)
    monkeypatch.setattr(fixed_decoding, "FIXED_SHAPES_ON", {"cpu"})
    assert has_fixed_shapes(policy)
    fixed = generate(policy, prompts, temperature, rows_per_pass)
    assert len({len(answer) for answer in fixed.token_ids}) > 3
    assert fixed.hidden is not None
    assert growing.hidden is not None
    if policy.bf16:
        # Rounding of bfloat16 may tip a draw; what was drawn first was drawn from the same states.
        same = [a[0] == b[0] for a, b in zip(fixed.token_ids, growing.token_ids, strict=True)]
        assert all(same)
        return
    assert fixed.token_ids == growing.token_ids
    for row, answer in enumerate(fixed.token_ids):
        torch.testing.assert_close(
            fixed.hidden[row, : len(answer)],
            growing.hidden[row, : len(answer)],
            rtol=0,
            atol=1e-5,
            msg=f"row {row}",
        )


def test_hidden_states_are_those_of_a_plain_pass(team: RunComponents, fixed_on_cpu: None) -> None:
    """Prevents old log-probabilities of other states than the update will see."""
    policy, prompts = team.policies[0], prompts_of(team)
    answers = generate(policy, prompts, 1.0)
    assert answers.hidden is not None
    for row, (prompt, answer) in enumerate(zip(prompts, answers.token_ids, strict=True)):
        with torch.no_grad():
            expected = policy.hidden_states(torch.tensor([prompt + answer]))[0]
        torch.testing.assert_close(
            answers.hidden[row, : len(answer)].float(),
            expected[len(prompt) - 1 : -1].float(),
            rtol=0,
            atol=0.1 if policy.bf16 else 1e-4,
        )


def test_nobody_leaves_and_all_stop_together(
    team: RunComponents, fixed_on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents shapes that change, and decoding on when everybody has long finished."""
    monkeypatch.setattr(growing_decoding, "STEPS_BETWEEN_LOOKS", {"cpu": 4})
    policy, prompts = team.policies[0], prompts_of(team)
    sizes: list[int] = []
    embedding = policy.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    answers = generate(policy, prompts, 1.0, end_ids=frozenset(range(0, 300, 2)))
    handle.remove()
    longest = max(map(len, answers.token_ids))
    assert longest < LENGTH - 4
    assert set(sizes) == {len(prompts)}
    assert longest <= len(sizes) <= longest + 4


class Looks(TorchDispatchMode):
    """Counts operations for which the host waits on an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in LOOKS or any(self._is_row_choice(index) for index in args[1:2]):
            self.names.append(name)
        return function(*args, **kwargs or {})

    @staticmethod
    def _is_row_choice(indices) -> bool:
        """Whether a tensor is indexed by True and False: the result's shape is a value."""
        return isinstance(indices, list) and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in indices
        )


def fixed_answers(policy: LanguageModel, prompts: list[list[int]], length: int) -> FixedAnswers:
    device = policy.device
    decoding = FixedDecoding(policy, prompts, room=length)

    def draw(hidden: Tensor, uniform: Tensor) -> Tensor:
        return sample_tokens(policy.logits(hidden, 0.7), 0.7, uniform)

    uniform = torch.rand(len(prompts), length, device=device)
    return FixedAnswers(decoding, uniform, torch.tensor([3, 5], device=device), draw)


@torch.no_grad()
def test_a_token_is_drawn_and_appended_without_a_look(team: RunComponents) -> None:
    """Prevents an operation, ours or the model's, at which an accelerator would be waited for."""
    answers = fixed_answers(team.policies[0], prompts_of(team), 6)
    with Looks() as looks:
        for _ in range(5):
            answers.advance()
    assert looks.names == []
    assert bool((answers.tokens.sum(0) > 0).all())


def test_looks_are_counted(team: RunComponents) -> None:
    """Prevents a counter that sees nothing."""
    numbers = torch.arange(4.0)
    with Looks() as looks:
        float(numbers[2])
        numbers.nonzero()
        numbers[numbers > 1]
    assert len(looks.names) >= 3


@pytest.mark.parametrize(("length", "expected"), [(16, 0), (17, 1), (40, 2)])
def test_answers_are_looked_at_every_16_tokens(
    tiny_gpt2_dir: Path,
    fixed_on_cpu: None,
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    expected: int,
) -> None:
    """Prevents a look per token in the loop around the steps."""
    monkeypatch.setattr(growing_decoding, "STEPS_BETWEEN_LOOKS", {})
    team = make_team(tiny_gpt2_dir)
    looks = Looks()
    decode = FixedDecoding.answer

    def counted(*arguments):
        with looks:
            return decode(*arguments)

    monkeypatch.setattr(FixedDecoding, "answer", counted)
    generate(team.policies[0], prompts_of(team), 1.0, end_ids=frozenset(), length=length)
    assert looks.names == ["_local_scalar_dense"] * expected


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=128, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        LlamaConfig(**TINY),
    ],
    ids=lambda config: config.model_type,
)
@torch.no_grad()
def test_a_token_needs_no_values_at_all(config: PreTrainedConfig) -> None:
    """Prevents what the counter does not know: tensors without values refuse every look."""
    policy = LanguageModel(tiny_model(config))
    answers = fixed_answers(policy, [[5, 6, 7], [8]], 6)
    policy.to("meta")
    # Autocast does not know this device.
    policy.precision = nullcontext
    for owner in (answers, answers.decoding, *answers.decoding.cache.layers):
        for name, value in vars(owner).items():
            if isinstance(value, Tensor):
                setattr(owner, name, value.to("meta"))
    for layer in answers.decoding.cache.layers:
        layer.column = answers.decoding.column
    answers.advance()
    assert answers.newest.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):
        answers.newest[0].item()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(**TINY), True),
        (MistralConfig(**TINY, sliding_window=4), False),
        (Gemma2Config(**TINY, head_dim=8), False),
        (FalconConfig(**TINY, alibi=True), False),
    ],
    ids=["llama", "mistral", "gemma2", "falcon-alibi"],
)
def test_only_known_architectures_are_fixed(config: PreTrainedConfig, expected: bool) -> None:
    """Prevents windows and biases by distance from being lost under a mask of all columns."""
    assert can_have_fixed_shapes(tiny_model(config)) is expected


def test_other_attention_grows(tiny_gpt2_dir: Path) -> None:
    """Prevents a mask of True and False from being added to scores."""
    eager = AutoModelForCausalLM.from_pretrained(tiny_gpt2_dir, attn_implementation="eager")
    assert not can_have_fixed_shapes(eager)


def test_cpus_do_not_wait_for_the_slowest(tiny_gpt2_dir: Path) -> None:
    """Prevents finished answers from being paid for where dropping them costs nothing."""
    assert not has_fixed_shapes(LanguageModel(GPT2LMHeadModel.from_pretrained(tiny_gpt2_dir)))


def test_elsewhere_nothing_is_recorded() -> None:
    """Prevents a call that is counted, but not carried out."""
    total = torch.zeros(1)
    step = Replayed(lambda: total.add_(1) and None, torch.device("cpu"))
    for _ in range(5):
        step()
    assert total.item() == 5
    assert step.graph is None


@pytest.mark.gpu
@pytest.mark.parametrize("bf16", [False, True])
@torch.no_grad()
def test_a_replayed_graph_draws_the_same_tokens(tiny_llama_dir: Path, bf16: bool) -> None:
    """Prevents a graph that reads other tensors than those the loop writes."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir).to("cuda")
    policy = LanguageModel(model, bf16=bf16)
    prompts = [[50, 51, 52, 53], [60], [70, 71]] * 4
    with policy.precision():
        torch.manual_seed(0)
        plain = fixed_answers(policy, prompts, LENGTH)
        torch.manual_seed(0)
        replayed = fixed_answers(policy, prompts, LENGTH)
        step = Replayed(replayed.advance, policy.device)
        for _ in range(LENGTH - 1):
            plain.advance()
            step()
    assert step.graph is not None
    assert torch.equal(plain.tokens, replayed.tokens)
    torch.testing.assert_close(plain.hidden, replayed.hidden)


@pytest.mark.gpu
def test_a_gpu_answers_as_a_cpu_does(tiny_llama_dir: Path) -> None:
    """Prevents fixed shapes from never being used, or wrongly, on the devices they are for."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    prompts = [[50, 51, 52, 53], [60], [70, 71]]
    expected = generate(LanguageModel(model), prompts, 0.0).token_ids
    policy = LanguageModel(model.to("cuda"))
    assert has_fixed_shapes(policy)
    assert generate(policy, prompts, 0.0).token_ids == expected
