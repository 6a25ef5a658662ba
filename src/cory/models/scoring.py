"""What a policy and the frozen reference say of sampled answers.

Legend: B sequences, T response columns, N response tokens of all sequences together, D hidden size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cory.algorithm import losses
from cory.distributed.fsdp import at_hand
from cory.distributed.world import ALONE, World
from cory.models.batch import Batch, to_rows
from cory.models.policy import LanguageModel, Policy, pieces_of


class TokenScores(NamedTuple):
    """What a policy and the frozen reference say of sampled responses; 0 on padding.

    `full_kl` and `entropy` are in nats. `ref_hidden` is kept only when the loss needs it.
    """

    logprobs: Float[Tensor, "B T"]
    values: Float[Tensor, "B T"]
    entropy: Float[Tensor, "B T"]
    ref_logprobs: Float[Tensor, "B T"]
    full_kl: Float[Tensor, "B T"]
    ref_hidden: Float[Tensor, "B T D"] | None = None


@torch.no_grad()
def score(
    policy: Policy,
    reference: LanguageModel,
    batch: Batch,
    temperature: float,
    max_rows: int | None = None,
    hidden: Float[Tensor, "b T D"] | None = None,
    keep_ref_hidden: bool = False,
    world: World = ALONE,
) -> TokenScores:
    """Score sampled responses under the policy and the reference (Eq 2 and 8: on the same prompt).

    Args:
        max_rows: sequences per forward pass; None: as many as are fast.
        hidden: the policy's hidden states from which the responses were sampled, of the rows of
            this process; None: computed again.
        keep_ref_hidden: also return the reference's hidden states.
        world: who scores which sequences; all get all scores.
    """
    count, width = batch.response_mask.shape
    own = batch.select(world.rows(count, batch.input_ids.device))

    def attempt() -> dict[str, Tensor]:
        scores: dict[str, Tensor] = {}
        largest = policy.scoring.at_most(max_rows)
        pieces = policy.scoring.noted(own.split(largest, policy.tokens_per_pass))
        for rows, _ in world.passes(pieces, count):
            piece = own.select(rows)
            length = piece.response_mask.shape[1]
            ref_hidden = reference.response_hidden(piece)
            if hidden is None:
                piece_hidden = policy.response_hidden(piece)
            else:
                piece_hidden = hidden[rows, :length][piece.response_mask]
            columns = _score_tokens(
                policy, reference, piece_hidden, ref_hidden, piece.response_tokens, temperature
            )
            if keep_ref_hidden:
                columns |= {"ref_hidden": ref_hidden}
            for name, flat in columns.items():
                shape = (*own.response_mask.shape, *flat.shape[1:])
                column = scores.setdefault(name, flat.new_zeros(shape))
                column[rows, :length] = to_rows(flat, piece.response_mask)
        return scores

    with at_hand(policy, reference):
        scores = policy.scoring.attempt(attempt, world)
    return TokenScores(
        **{name: world.join_rows(column, count, width) for name, column in scores.items()}
    )


def _score_tokens(
    policy: Policy,
    reference: LanguageModel,
    hidden: Float[Tensor, "N D"],
    ref_hidden: Float[Tensor, "N D"],
    tokens: Int[Tensor, " N"],
    temperature: float,
) -> dict[str, Tensor]:
    """The fields of `TokenScores` for N tokens."""
    pieces: list[dict[str, Tensor]] = []
    for piece in pieces_of(len(tokens), policy.vocab_size):
        all_logprobs = policy.logits(hidden[piece], temperature).log_softmax(-1)
        ref_all_logprobs = reference.logits(ref_hidden[piece], temperature).log_softmax(-1)
        chosen = tokens[piece, None]
        pieces.append(
            {
                "logprobs": all_logprobs.gather(1, chosen).squeeze(1),
                "values": policy.values(hidden[piece]),
                "entropy": losses.entropy_of(all_logprobs),
                "ref_logprobs": ref_all_logprobs.gather(1, chosen).squeeze(1),
                "full_kl": losses.full_kl_of(all_logprobs, ref_all_logprobs),
            }
        )
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
