"""Log-probabilities, values, entropy and KL of sampled responses.

Legend: B sequences, T response columns, N response tokens of all sequences together, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cory.algorithm import losses
from cory.algorithm.filtering import WHOLE_DISTRIBUTION, TokenFilter, restricted_to
from cory.distributed.fsdp import unsharded_heads
from cory.distributed.world import SINGLE, World
from cory.models.batch import Batch, to_rows
from cory.models.policy import LanguageModel, Policy, pieces_of


class TokenScores(NamedTuple):
    """Scores of sampled responses under a policy and the frozen reference; 0 on padding.

    `full_kl` and `entropy` are in nats. `ref_hidden` is kept only when the loss needs it. `kept`
    are the tokens that could be drawn (`filtering.packed`), None if all could; everything but
    `values` is of the distributions on these, the reference's as well.
    """

    logprobs: Float[Tensor, "B T"]
    values: Float[Tensor, "B T"]
    entropy: Float[Tensor, "B T"]
    ref_logprobs: Float[Tensor, "B T"]
    full_kl: Float[Tensor, "B T"]
    ref_hidden: Float[Tensor, "B T D"] | None = None
    kept: UInt8[Tensor, "B T _"] | None = None


@dataclass(frozen=True)
class TokenScorer:
    """Scores sampled responses under a policy and the frozen reference.

    Eq 2 and 8: both read the same prompt, an observer's with the earlier answers in it.

    Args:
        reference: the frozen initial model.
        temperature: of sampling, used in scoring too.
        max_rows: sequences per forward pass; None: as many as are fast.
        keep_ref_hidden: also keep the reference's hidden states, for a KL in the loss.
        world: who scores which sequences; all get all scores.
        token_filter: of sampling, used in scoring too.
    """

    reference: LanguageModel
    temperature: float
    max_rows: int | None = None
    keep_ref_hidden: bool = False
    world: World = SINGLE
    token_filter: TokenFilter = WHOLE_DISTRIBUTION

    @torch.no_grad()
    def score(
        self,
        policy: Policy,
        batch: Batch,
        hidden: Float[Tensor, "b T D"] | None = None,
        kept: UInt8[Tensor, "B T _"] | None = None,
    ) -> TokenScores:
        """Score B responses.

        Args:
            policy: whose responses they are, or are to become.
            batch: of all processes.
            hidden: the policy's hidden states from which the responses were sampled, of the rows
                of this process; None: computed again.
            kept: the tokens that could be drawn, of responses that another policy has given; None:
                those that `token_filter` keeps of this one's.
        """
        count, width = batch.response_mask.shape
        own_rows = self.world.rows(count, batch.input_ids.device)
        own, own_kept = batch.select(own_rows), None if kept is None else kept[own_rows]

        def attempt() -> dict[str, Tensor]:
            scores: dict[str, Tensor] = {}
            largest = policy.scoring.at_most(self.max_rows)
            pieces = policy.scoring.noted(own.split(largest, policy.tokens_per_pass))
            for rows, _ in self.world.padded_microbatches(pieces, count):
                piece = own.select(rows)
                length = piece.response_mask.shape[1]
                known, known_kept = (
                    None if one is None else one[rows, :length][piece.response_mask]
                    for one in (hidden, own_kept)
                )
                for name, flat in self._score_piece(policy, piece, known, known_kept).items():
                    shape = (*own.response_mask.shape, *flat.shape[1:])
                    column = scores.setdefault(name, flat.new_zeros(shape))
                    column[rows, :length] = to_rows(flat, piece.response_mask)
            return scores

        with unsharded_heads(policy, self.reference):
            scores = policy.scoring.attempt(attempt, self.world)
        return TokenScores(
            **{name: self.world.join_rows(column, count, width) for name, column in scores.items()}
        )

    def _score_piece(
        self,
        policy: Policy,
        piece: Batch,
        hidden: Float[Tensor, "N D"] | None,
        kept: UInt8[Tensor, "N _"] | None,
    ) -> dict[str, Tensor]:
        """The fields of `TokenScores` for the N response tokens of a few sequences."""
        reference, temperature = self.reference, self.temperature
        ref_hidden = reference.response_hidden(piece)
        if hidden is None:
            hidden = policy.response_hidden(piece)
        tokens = piece.response_tokens
        parts: list[dict[str, Tensor]] = []
        for part in pieces_of(len(tokens), policy.vocab_size):
            logits = policy.logits(hidden[part], temperature)
            ref_logits = reference.logits(ref_hidden[part], temperature)
            kept_part = None if kept is None else kept[part]
            if kept_part is None and self.token_filter.is_on:
                kept_part = self.token_filter.kept_with(logits, tokens[part])
            all_logprobs = restricted_to(logits, kept_part).log_softmax(-1)
            ref_all_logprobs = restricted_to(ref_logits, kept_part).log_softmax(-1)
            chosen = tokens[part, None]
            parts.append(
                ({} if kept_part is None else {"kept": kept_part})
                | {
                    "logprobs": all_logprobs.gather(1, chosen).squeeze(1),
                    "values": policy.values(hidden[part]),
                    "entropy": losses.entropy_of(all_logprobs),
                    "ref_logprobs": ref_all_logprobs.gather(1, chosen).squeeze(1),
                    "full_kl": losses.full_kl_of(all_logprobs, ref_all_logprobs),
                }
            )
        scores = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return scores | ({"ref_hidden": ref_hidden} if self.keep_ref_hidden else {})
