"""Language models as policies: hidden states, log-probabilities, values, entropy, KL.

The vocabulary is only ever visited for response tokens, in pieces of bounded size, so that no
(B, T, V) tensor of two models lives at once.

Legend: B sequences, P prompt columns, T response columns, S = P + T, N response tokens of all
sequences together, V vocabulary, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from cory.algorithm import losses
from cory.algorithm.filtering import restricted_to
from cory.distributed.memory import PassSize
from cory.io.quiet import padded_at_the_end
from cory.models.batch import Batch
from cory.models.layers import last_mlp, only_at
from cory.models.logprobs import head_logprobs, token_logprobs
from cory.models.packing import packed
from cory.models.weights import Weights

LOGITS_PER_PIECE = 2**24
"""Vocabulary entries (64 MiB in float32) that one piece of the head's work may hold."""

TOKENS_PER_PASS = {"cpu": 1024}
"""Tokens of one forward pass that keep a device busy and, on a CPU, its caches warm."""
MANY_TOKENS_PER_PASS = 2**14
"""The same for devices not named above."""

SMALL_MODEL = 2**25
"""Weights up to which a pass is so short that on a CPU what surrounds its products counts."""


class LanguageModel(nn.Module):
    """A causal language model, split into its body and its head.

    Args:
        model: any Hugging Face causal LM; kept in eval mode, so that dropout never acts.
        activate: context in which the model's weights are this policy's, for models whose adapters
            share one base.
        bf16: compute in bfloat16 (autocast), in sampling, scoring and learning alike.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        activate: Callable[[], AbstractContextManager[object]] = nullcontext,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.activate = activate
        self.bf16 = bf16
        self.narrows_last_mlp = False
        """Whether the last MLP works at response positions only; where that is known to do."""
        self.samples_as_scored = False
        """Whether hidden states of sampling are those of a scoring pass; where that is known."""
        self.scoring = PassSize("scoring")

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def head(self) -> Any:
        """The layer from hidden states to logits; its `weight` is (V, D)."""
        return self.model.get_output_embeddings()

    @property
    def vocab_size(self) -> int:
        return self.head.weight.shape[0]

    @property
    def num_embeddings(self) -> int:
        """Tokens that the model can read; a head may know fewer or more."""
        embeddings: Any = self.model.get_input_embeddings()
        return embeddings.weight.shape[0]

    @property
    def is_small_on_cpu(self) -> bool:
        """Whether memory and cores had best be used as `SMALL_MODEL` says."""
        num_weights = sum(weight.numel() for weight in self.model.parameters())
        return self.device.type == "cpu" and num_weights <= SMALL_MODEL

    @property
    def tokens_per_pass(self) -> int:
        """How many tokens a forward pass had best take at a time."""
        return TOKENS_PER_PASS.get(self.device.type, MANY_TOKENS_PER_PASS)

    def precision(self) -> torch.autocast:
        """Context in which matrix products have the configured number format."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def sampling(self) -> AbstractContextManager[None]:
        """Context for many passes without a gradient between which no weight changes."""
        on_cpu = self.bf16 and self.device.type == "cpu"
        return packed(self.model) if on_cpu else nullcontext()

    def select_rows(self, rows: Int[Tensor, " B"]) -> None:
        """Learn which rows of a batch go on; for models that do not treat all rows alike."""

    def hidden_states(
        self,
        input_ids: Int[Tensor, "B S"],
        attention_mask: Int[Tensor, "B _"] | Bool[Tensor, "B 1 1 _"] | None = None,
        positions: Int[Tensor, "B S"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "B S D"]:
        """Last hidden states.

        Args:
            input_ids: sequences; where they start in column 0 nothing else is needed.
            attention_mask: 1 on real tokens, cached columns included; None: all are real. With
                four dimensions it goes to attention as it is.
            positions: of the tokens in their sequences; None: from 0 on.
            cache: keys and values of earlier columns; grows by this call's.
        """
        with self.activate(), self.precision():
            return self.model.base_model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
            ).last_hidden_state

    def logits(self, hidden: Float[Tensor, "*N D"], temperature: float) -> Float[Tensor, "*N V"]:
        """Next-token logits in float32, divided by the temperature."""
        with self.activate(), self.precision():
            logits = postprocess_logits(self.model, self.head(hidden).float())
        return logits if temperature == 1 else logits / temperature

    def response_hidden(self, batch: Batch) -> Float[Tensor, "N D"]:
        """Hidden states from which each response token was predicted, in row-major order."""
        positions = batch.predicts_response
        mlp = last_mlp(self.model) if self.narrows_last_mlp else None
        with only_at(mlp, positions), padded_at_the_end():
            return self.hidden_states(batch.input_ids[:, :-1])[positions]

    def logprobs(
        self, hidden: Float[Tensor, "N D"], tokens: Int[Tensor, " N"], temperature: float
    ) -> Float[Tensor, " N"]:
        """Log-probability of each token; differentiable in `hidden` and in the head."""
        if has_plain_head(self.model):
            dtype = torch.bfloat16 if self.bf16 else self.head.weight.dtype
            return head_logprobs(hidden, self.head.weight, tokens, temperature, dtype)
        return token_logprobs(self.logits(hidden, temperature), tokens)


class Policy(LanguageModel):
    """One agent's weights: a language model and a value head on its last hidden state.

    The value head starts at zero, so the first advantages are the rewards themselves.
    """

    def __init__(self, weights: Weights, bf16: bool = False) -> None:
        super().__init__(weights.model, weights.activate, bf16)
        self.weights = weights
        self.value_head = nn.Linear(self.head.weight.shape[1], 1, device=self.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def language_parameters(self) -> list[nn.Parameter]:
        """The language-model weights that this agent owns and trains."""
        named = self.model.named_parameters()
        return [weight for name, weight in named if self.weights.owns(name)]

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All that this agent trains: its language-model weights and its value head."""
        return [*self.language_parameters(), *self.value_head.parameters()]

    @contextmanager
    def sampling(self) -> Iterator[None]:
        with self.weights.sampling(), super().sampling():
            yield

    def values(self, hidden: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        """Expected return from each position on, in float32."""
        return self.value_head(hidden.float()).squeeze(-1).float()


def differentiable_full_kl(
    policy: LanguageModel,
    hidden: Float[Tensor, "N D"],
    reference: LanguageModel,
    ref_hidden: Float[Tensor, "N D"],
    temperature: float,
    kept: UInt8[Tensor, "N _"] | None = None,
) -> Float[Tensor, " N"]:
    """Full KL to the reference at each token, with a gradient through the policy.

    Of both distributions on the tokens `kept`. The logits of a piece are computed again in the
    backward pass instead of being kept.
    """

    def kl(hidden_piece: Tensor, ref_piece: Tensor, kept_piece: Tensor | None) -> Tensor:
        with torch.no_grad():
            ref_logits = restricted_to(reference.logits(ref_piece, temperature), kept_piece)
        logits = restricted_to(policy.logits(hidden_piece, temperature), kept_piece)
        return losses.full_kl(logits, ref_logits)

    return by_pieces(kl, policy, hidden, ref_hidden, kept)


def by_pieces(
    function: Callable[..., Tensor], policy: LanguageModel, *columns: Tensor | None
) -> Float[Tensor, " N"]:
    """A function of N tokens that visits the vocabulary, differentiable, piece by piece."""
    first = columns[0]
    assert first is not None, "the hidden states"
    return torch.cat(
        [
            checkpoint(
                function,
                *(None if column is None else column[piece] for column in columns),
                use_reentrant=False,
            )
            for piece in pieces_of(len(first), policy.vocab_size)
        ]
    )


def pieces_of(num_tokens: int, vocab_size: int) -> Iterator[slice]:
    """Response tokens by as many as may have their whole vocabulary in memory at once."""
    size = max(1, LOGITS_PER_PIECE // vocab_size)
    return (slice(start, start + size) for start in range(0, num_tokens, size))


LOGIT_SETTINGS = ("logit_scale", "logits_scaling", "final_logit_softcapping")
"""What `postprocess_logits` reads of a model's settings."""


def postprocess_logits(model: PreTrainedModel, logits: Tensor) -> Tensor:
    """What an architecture does to its head's output: scale (Cohere, Granite) or cap it (Gemma)."""
    config = model.config.get_text_config()
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = (logits / cap).tanh() * cap
    return logits


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether logits are one matrix times hidden states: no bias, adapter, shard, scale or cap."""
    head, config = model.get_output_embeddings(), model.config.get_text_config()
    return (
        type(head) is nn.Linear
        and head.bias is None
        and type(head.weight.data) is Tensor
        and all(getattr(config, name, None) is None for name in LOGIT_SETTINGS)
    )
