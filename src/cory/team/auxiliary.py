"""What an agent learns from: its own answers, and what may be taken from its partners'.

Legend: B sequences, T response columns, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cory.algorithm.losses import PolicyLoss, likelihood_loss, policy_loss
from cory.config import CORYConfig
from cory.models.batch import Batch, make_batch, to_rows
from cory.team.types import Experience

POLICY_LOSSES: dict[str, Callable[..., PolicyLoss]] = {
    "clipped": policy_loss,
    "likelihood": likelihood_loss,
}
"""By the name in `CORYConfig.transfer_back`; they take the same arguments."""
LARGEST_IMPORTANCE = 2.0
"""Where importance weights are cut off: more would let a few tokens decide an update."""


@dataclass(frozen=True)
class Lesson:
    """Sequences to learn from in one iteration; fixed before the first epoch."""

    batch: Batch
    old_logprobs: Float[Tensor, "B T"]
    advantages: Float[Tensor, "B T"]
    old_values: Float[Tensor, "B T"] | None = None
    """None: the value function learns nothing from it."""
    returns: Float[Tensor, "B T"] | None = None
    ref_logprobs: Float[Tensor, "B T"] | None = None
    ref_hidden: Float[Tensor, "B T D"] | None = None
    kl_weight: float | None = None
    """Weight of the KL in the loss; None: it is not there."""
    weight: float = 1.0
    """Weight of the whole lesson."""
    policy_loss: Callable[..., PolicyLoss] = policy_loss
    name: str = ""
    """Before its metrics; the agent's own answers have none."""

    def select(self, rows: Tensor) -> Lesson:
        """Some sequences, without the columns that are padding in all of them."""
        batch = self.batch.select(rows)
        length = batch.response_mask.shape[1]

        def cut(rectangle: Tensor | None) -> Any:
            return None if rectangle is None else rectangle[rows, :length]

        return replace(
            self,
            batch=batch,
            old_logprobs=cut(self.old_logprobs),
            advantages=cut(self.advantages),
            old_values=cut(self.old_values),
            returns=cut(self.returns),
            ref_logprobs=cut(self.ref_logprobs),
            ref_hidden=cut(self.ref_hidden),
        )

    def kept(self, statistics: Iterable[str]) -> list[str]:
        """Which statistics are logged: all of one's own answers, two of a partner's."""
        return [key for key in statistics if not self.name or key in _OF_PARTNERS]


_OF_PARTNERS = ("policy_loss", "clip_fraction")


def select_each(lessons: Sequence[Lesson], rows: Sequence[Tensor]) -> list[Lesson]:
    """Some rows of each lesson; one of which there are none is left out.

    Few answers, split into more mini-batches, leave some without any.
    """
    pairs = zip(lessons, rows, strict=True)
    return [lesson.select(chosen) for lesson, chosen in pairs if len(chosen)]


def plain_samples(team: Sequence[Experience], agent: int, args: CORYConfig) -> list[Experience]:
    """Partners' answers to the plain query, if they are to be learnt from.

    The pioneer's; where nobody sees anything, everybody's.
    """
    if not args.partner_samples_weight:
        return []
    return [
        experience
        for experience in team
        if experience.turn.agent != agent and not experience.turn.num_references
    ]


def importance_of(
    logprobs: Float[Tensor, "B T"],
    behaviour_logprobs: Float[Tensor, "B T"],
    largest: float = LARGEST_IMPORTANCE,
) -> Float[Tensor, "B T"]:
    """Truncated importance: min(π / π_behaviour, largest); 1 on padding, where both are 0."""
    return (logprobs - behaviour_logprobs).exp().clamp(max=largest)


def better_answers(
    team: Sequence[Experience], args: CORYConfig
) -> tuple[list[Lesson], dict[str, float]]:
    """Answers with a reference in view that earned more than the pioneer's, behind the plain query.

        weight · Σ_{t of better answers} −log π(w_t | s0, w_<t) / (tokens of all such answers)

    With `transfer_back="clipped"` the log-probability is replaced by PPO's clipped ratio to the
    probability that the observer gave the token, with the reference in view.

    Returns:
        at most one lesson, and its metrics.
    """
    later = [experience for experience in team if experience.turn.num_references]
    if not args.transfer_back_weight or not later:
        return [], {}
    pioneer = team[0]
    chosen = [(experience, beats(experience, pioneer)) for experience in later]
    share = float(torch.cat([is_better for _, is_better in chosen]).float().mean())
    lessons = [_behind_the_plain_query(pioneer, chosen, args)] if share else []
    return lessons, {"transfer_back/share": share}


def beats(experience: Experience, pioneer: Experience) -> Bool[Tensor, " B"]:
    """Whether each answer earned more than the answer of the pioneer that it saw."""
    answers_each = len(experience.turn) // len(pioneer.turn)
    return experience.task_reward > pioneer.task_reward.repeat_interleave(answers_each)


def _behind_the_plain_query(
    pioneer: Experience, chosen: Sequence[tuple[Experience, Tensor]], args: CORYConfig
) -> Lesson:
    prompts: list[list[int]] = []
    answers: list[list[int]] = []
    logprobs: list[Tensor] = []
    for experience, is_better in chosen:
        answers_each = len(experience.turn) // len(pioneer.turn)
        for row in is_better.nonzero().flatten().tolist():
            prompts.append(pioneer.turn.prompt_ids[row // answers_each])
            answers.append(experience.turn.response_ids[row])
            logprobs.append(experience.scores.logprobs[row, : len(answers[-1])])
    batch = make_batch(prompts, answers, pad_id=0, device=pioneer.batch.input_ids.device)
    num_tokens = sum(experience.batch.num_tokens for experience, _ in chosen)
    return Lesson(
        batch=batch,
        old_logprobs=to_rows(torch.cat(logprobs), batch.response_mask),
        advantages=batch.response_mask.float(),
        weight=args.transfer_back_weight * batch.num_tokens / num_tokens,
        policy_loss=POLICY_LOSSES[args.transfer_back],
        name="transfer_back/",
    )
