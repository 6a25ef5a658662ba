"""Start-up probe: models are driven as a run will drive them, and compared with a plain pass.

The plain pass is the model's own `forward` on one sequence, without cache, mask or padding.
Sampling and scoring must give its log-probabilities. What an architecture, an adapter or a number
format does differently from what cory expects is found here, before the first iteration.

Legend: N response tokens of all sequences together, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from cory.distributed.fsdp import unsharded
from cory.distributed.memory import MemoryLimitError, is_out_of_memory
from cory.generation.local import Answers, LocalSampler, answer_each, sample_tokens
from cory.models.batch import make_batch
from cory.models.layers import EXACT_ATTENTION, last_mlp
from cory.models.policy import LanguageModel, Policy
from cory.models.weights import Adapter, replaced

PROMPT_LENGTHS = (12, 5, 12)
"""Tokens of the prompts, at most: ragged, and one is there twice, as with `num_generations`."""
LARGEST_WINDOW = 32
"""Layers that see so many of the last tokens at most get a prompt that is longer."""
NUM_TOKENS = 5
"""Tokens of an answer, at most: a GPU replays the last of them as a graph."""
LARGEST_ERROR = 2e-3
"""In float32; see `error_of`."""
LARGEST_ROUNDING_ERROR = 0.15
"""Where weights or products have 16 bits or less."""
EQUAL = 1e-4
"""Up to here, what sampling computes stands for a scoring pass of its own."""
NOISE = 0.05
"""Standard deviation of what is added to adapters meanwhile: they start equal, most as nothing."""

Rows = Sequence[Sequence[int]]


class ModelRefusedError(ValueError):
    """A model does not compute what cory expects of it."""


@torch.no_grad()
def probe_models(
    policies: Sequence[Policy],
    reference: LanguageModel,
    token_ids: Sequence[int],
    context_length: int | None = None,
    samples_here: bool = True,
) -> None:
    """Refuse models that cory does not drive right; switch on the shortcuts that apply.

    The cost is that of a few short passes.

    Args:
        policies: agents at their start.
        reference: the frozen initial model.
        token_ids: of any real text.
        context_length: tokens that the model can read; None: any number.
        samples_here: whether answers are drawn in this process.

    Raises:
        ModelRefusedError: what cory computes is not what the model computes by itself.
    """
    prompts, num_tokens = _prompts(token_ids, context_length, _window(reference))
    shares_base = isinstance(policies[0].weights, Adapter)
    # Full copies are all the same here: one stands for all.
    agents = list(policies) if shares_base else list(policies[:1])
    with _failures_refused(reference), ExitStack() as stack:
        at_start = [_check_head(agents[0], prompts[0])]
        at_start += [_plain_text(policy, prompts[0]) for policy in agents[1:]]
        if shares_base:
            start = _plain_text(reference, prompts[0])
            for policy, now in zip(agents, at_start, strict=True):
                _compare(policy, "with a new adapter, which must change nothing", now, start)
            stack.enter_context(_disturbed(agents))
            now = _plain_text(reference, prompts[0])
            _compare(reference, "as the reference beside trained adapters", now, start)
        if samples_here:
            errors = _check_answers(agents, prompts, num_tokens)
        else:
            rows = [prompts[0][:num_tokens]] * len(prompts)
            plain = _plain(agents[0], prompts, rows)
            errors = [_check_scoring(agents[0], prompts, rows, plain)]
    for model in (*policies, reference):
        model.narrows_last_mlp = agents[0].narrows_last_mlp
        model.samples_as_scored = max(errors) <= EQUAL and not _rounds_by_shape(agents[0])


def _check_answers(policies: Sequence[Policy], prompts: Rows, num_tokens: int) -> list[float]:
    """Errors of what all sample in one batch, where they can, and of how the first is scored."""
    sampler = LocalSampler(frozenset(), rows_per_pass=len(policies) * len(prompts))
    generators = [_generator(policy) for policy in policies]
    asked = [prompts] * len(policies)
    answers = answer_each(sampler, policies, asked, num_tokens, 1.0, generators)
    plain = [
        _plain(policy, prompts, answer.token_ids)
        for policy, answer in zip(policies, answers, strict=True)
    ]
    checked = zip(policies, answers, plain, strict=True)
    errors = [_check_sampling(policy, answer, own) for policy, answer, own in checked]
    return [*errors, _check_scoring(policies[0], prompts, answers[0].token_ids, plain[0])]


def error_of(ours: Float[Tensor, "N V"], plain: Float[Tensor, "N V"]) -> float:
    """How far log-probabilities are off, as a share of how much they differ between tokens.

    Root mean squares of both: 0 is equal, and models that have nothing in common have about 1.4.
    """
    spread = (plain - plain.mean(-1, keepdim=True)).square().mean().sqrt()
    return float((ours - plain).square().mean().sqrt() / spread.clamp(min=1e-6))


def largest_error(model: LanguageModel) -> float:
    """The largest that `error_of` may be for a model, by its number formats."""
    return LARGEST_ROUNDING_ERROR if _is_rounded(model) else LARGEST_ERROR


def _is_rounded(model: LanguageModel) -> bool:
    formats = {weight.dtype for weight in model.model.parameters() if weight.is_floating_point()}
    is_quantized = getattr(model.model, "is_quantized", False)
    return model.bf16 or is_quantized or min(map(_bits, formats)) < 32


def _rounds_by_shape(model: LanguageModel) -> bool:
    """Whether longer or more answers than the probe's may round differently in the last bits."""
    is_exact = model.model.config._attn_implementation == EXACT_ATTENTION
    agrees = model.bf16 and is_exact and model.device.type == "cpu"
    return _is_rounded(model) and not agrees


def _bits(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits


def _window(model: LanguageModel) -> int:
    """How many of the last tokens some layers see, where these are few; else 0."""
    window = getattr(model.model.config.get_text_config(), "sliding_window", None)
    return window if isinstance(window, int) and window <= LARGEST_WINDOW else 0


def _prompts(
    token_ids: Sequence[int], context_length: int | None, window: int
) -> tuple[list[list[int]], int]:
    """Prompts of the tokens that there are, and how long an answer may be."""
    longest = max(*PROMPT_LENGTHS, window + NUM_TOKENS if window else 0)
    room = longest + NUM_TOKENS if context_length is None else max(4, context_length)
    num_tokens = min(NUM_TOKENS, room // 2)
    distinct = list(dict.fromkeys(token_ids))
    text = (distinct * longest)[: min(longest, room - num_tokens)]
    return [text, text[: min(PROMPT_LENGTHS)], text], num_tokens


def _generator(model: LanguageModel) -> torch.Generator:
    return torch.Generator(model.device).manual_seed(0)


def _plain(model: LanguageModel, prompts: Rows, answers: Rows) -> Float[Tensor, "N V"]:
    """What the model by itself says of each answer, one after the other."""
    rows: list[Tensor] = []
    with unsharded(model), model.activate(), model.precision():
        for prompt, answer in zip(prompts, answers, strict=True):
            tokens = torch.tensor([[*prompt, *answer]], device=model.device)
            rows.append(model.model(input_ids=tokens).logits[0, len(prompt) - 1 : -1].float())
    logits = torch.cat(rows)
    if logits.isnan().any():
        raise ModelRefusedError(
            f"{_name(model)} gives nan for plain text: its weights are damaged, or overflow in "
            f"{model.model.dtype}. Fetch them again, or use dtype='float32'"
        )
    return logits.log_softmax(-1)


def _plain_text(model: LanguageModel, tokens: Sequence[int]) -> Float[Tensor, "N V"]:
    return _plain(model, [tokens[:1]], [tokens[1:]])


def _check_head(model: LanguageModel, prompt: Sequence[int]) -> Float[Tensor, "N V"]:
    """Compare body and head with the plain pass, which is returned."""
    tokens = torch.tensor([prompt], device=model.device)
    with unsharded(model):
        # The first pass of sharded weights must be this one: it prepares them.
        hidden = model.hidden_states(tokens)[0, :-1]
        ours = model.logits(hidden, 1.0).log_softmax(-1)
    plain = _plain_text(model, prompt)
    way = "by its body and then its head (cory.models.policy.postprocess_logits)"
    _compare(model, way, ours, plain)
    return plain


def _check_sampling(model: LanguageModel, answers: Answers, plain: Float[Tensor, "N V"]) -> float:
    way = "sampled with a cache of keys and values and padded on the left"
    assert answers.hidden is not None, "this process has sampled"
    with unsharded(model):
        sampled = model.logits(answers.hidden.flatten(0, 1), 1.0).log_softmax(-1)
    error = _compare(model, way, sampled, plain)
    # Hidden states may be right, and a head that is another agent's have chosen the tokens.
    tokens = torch.tensor(answers.token_ids, device=model.device)
    uniform = torch.rand(tokens.shape, generator=_generator(model), device=model.device)
    expected = sample_tokens(plain, 1.0, uniform.flatten())
    num_others = int((tokens.flatten() != expected).sum())
    most = 1 if largest_error(model) == LARGEST_ERROR else tokens.numel() // 2
    if num_others > most:
        raise ModelRefusedError(
            f"{_name(model)} is not sampled right: {num_others} of {tokens.numel()} tokens are not "
            f"those that its own plain pass gives with the same random numbers. {REMEDY}"
        )
    return error


def _check_scoring(
    model: LanguageModel, prompts: Rows, answers: Rows, plain: Float[Tensor, "N V"]
) -> float:
    batch = make_batch(prompts, answers, model.device)

    def score() -> Tensor:
        tokens = batch.response_tokens
        with unsharded(model):
            hidden = model.response_hidden(batch)
            logprobs = model.logits(hidden, 1.0).log_softmax(-1)
            # Updates compute those of the tokens by themselves: they must be the same.
            chosen = model.logprobs(hidden, tokens, 1.0)
        return logprobs + (chosen - logprobs.gather(1, tokens[:, None])[:, 0])[:, None]

    # Where the shortcut is right, nothing is scored without it.
    model.narrows_last_mlp = last_mlp(model.model) is not None
    try:
        if model.narrows_last_mlp and (error := error_of(score(), plain)) <= largest_error(model):
            return error
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        pass  # An MLP that takes or gives something else than one tensor.
    model.narrows_last_mlp = False
    return _compare(model, "scored with padding on the right", score(), plain)


def _compare(
    model: LanguageModel, way: str, ours: Float[Tensor, "N V"], plain: Float[Tensor, "N V"]
) -> float:
    error, limit = error_of(ours, plain), largest_error(model)
    if not error <= limit:
        raise ModelRefusedError(
            f"{_name(model)} is not computed right: {way}, its log-probabilities differ from those "
            f"of its own plain pass by {error:.3g} of their spread, and {limit:g} is allowed. "
            f"{REMEDY}"
        )
    return error


REMEDY = (
    "Use an architecture and an adapter that docs/reference/architectures.md lists as driven, or "
    "another attn_implementation"
)


def _name(model: LanguageModel) -> str:
    return type(model.model).__name__


@contextmanager
def _failures_refused(model: LanguageModel) -> Iterator[None]:
    """Context in which what the model's own code raises is a refusal of the model."""
    try:
        yield
    except (MemoryLimitError, ModelRefusedError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ModelRefusedError(
            f"{_name(model)} cannot be driven by cory: a short sampling and scoring ended in "
            f"{type(error).__name__}: {reason}. {REMEDY}"
        ) from error


@contextmanager
def _disturbed(policies: Sequence[Policy]) -> Iterator[None]:
    """Context in which agents differ from the reference and from each other."""
    generator = torch.Generator().manual_seed(0)
    weights = [weight for policy in policies for weight in policy.language_parameters()]
    noisy = [
        weight + NOISE * torch.randn(weight.shape, generator=generator).to(weight)
        for weight in weights
    ]
    with replaced(weights, noisy):
        yield
