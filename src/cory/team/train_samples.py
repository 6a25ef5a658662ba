"""Training samples of one update: an agent's own answers, and what is taken from its partners'.

Answers that another engine drew are corrected for its numbers, which are near the trainer's, not
equal. Legend: B sequences, T response columns, D hidden size. μ is the distribution that the engine
drew from, π_old the trainer's computation of the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from cory.algorithm.advantages import truncated_importance
from cory.algorithm.losses import PolicyLoss, policy_loss
from cory.algorithm.policy_losses import (
    LOG_RATIOS,
    LOSS_WEIGHTS,
    POLICY_LOSSES,
    LossWeights,
    likelihood_loss,
)
from cory.config import CORYConfig
from cory.models.batch import Batch, make_batch
from cory.team.types import RolloutRecord


@dataclass(frozen=True)
class TrainSamples:
    """Sequences to learn from in one iteration; fixed before the first epoch."""

    batch: Batch
    old_logprobs: Float[Tensor, "B T"]
    advantages: Float[Tensor, "B T"]
    old_values: Float[Tensor, "B T"] | None = None
    """None: the value function learns nothing from them."""
    returns: Float[Tensor, "B T"] | None = None
    ref_logprobs: Float[Tensor, "B T"] | None = None
    ref_hidden: Float[Tensor, "B T D"] | None = None
    kl_weight: float | None = None
    """Weight of the KL in the loss; None: it is not there."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus; 0: it is not there."""
    kl_log_ratio: Callable[[Tensor, Tensor], Tensor] | None = None
    """Makes of log-ratios of tokens those that the KL in the loss is multiplied by; None: it is
    not (`policy_losses.LOG_RATIOS`)."""
    kept: UInt8[Tensor, "B T _"] | None = None
    """The tokens that could be drawn (`filtering.packed`); None: all."""
    weigh: LossWeights | None = None
    """Makes `loss_weights` of a mini-batch; None: there are none."""
    loss_weights: Float[Tensor, "B 1"] | None = None
    """How much each token counts; None: all the same."""
    weight: float = 1.0
    """Weight of their whole loss."""
    policy_loss: Callable[..., PolicyLoss] = policy_loss
    name: str = ""
    """Prefix of their metrics; the agent's own answers have none."""

    def select(self, rows: Tensor) -> TrainSamples:
        """Some sequences, without the columns that are padding in all of them."""
        batch = self.batch.select(rows)
        length = batch.response_mask.shape[1]
        rectangles = {
            name: value[rows, :length]
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, batch=batch, **rectangles)

    def mini_batch(self, rows: Tensor, args: CORYConfig) -> TrainSamples:
        """Some sequences for one optimizer step, with the weights of their tokens in its loss."""
        chosen = self.select(rows)
        if self.weigh is None:
            return chosen
        tokens_per_mini_batch = self.batch.num_tokens / args.num_mini_batches
        mask = chosen.batch.response_mask
        weights = self.weigh(mask, tokens_per_mini_batch, args.max_completion_length)
        return replace(chosen, loss_weights=weights)

    def weighted(self, values: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Values of tokens by how much each counts in the loss."""
        return values if self.loss_weights is None else values * self.loss_weights

    def weighted_sum(self, values: Float[Tensor, " N"]) -> Float[Tensor, ""]:
        """The sum over all response tokens, by how much each counts in the loss."""
        if self.loss_weights is None:
            return values.sum()
        mask = self.batch.response_mask
        return (values * self.loss_weights.expand(mask.shape)[mask]).sum()

    def logged(self, statistics: Iterable[str]) -> list[str]:
        """Which statistics are logged: all of one's own answers, two of a partner's."""
        return [key for key in statistics if not self.name or key in _OF_PARTNERS]


_OF_PARTNERS = ("policy_loss", "clip_fraction")


def select_each(
    samples: Sequence[TrainSamples], rows: Sequence[Tensor], args: CORYConfig
) -> list[TrainSamples]:
    """A mini-batch of each; those of which there are no rows are left out.

    Few answers, split into more mini-batches, leave some without any.
    """
    pairs = zip(samples, rows, strict=True)
    return [one.mini_batch(chosen, args) for one, chosen in pairs if len(chosen)]


def loss_variant(args: CORYConfig) -> dict[str, Any]:
    """What the settings make of the loss on answers that an agent learns as its own."""
    return {
        "policy_loss": POLICY_LOSSES[args.importance_sampling_level],
        "weigh": LOSS_WEIGHTS[args.loss_type],
        "entropy_weight": args.entropy_coef,
        "kl_log_ratio": (
            LOG_RATIOS[args.importance_sampling_level] if args.use_bias_correction_kl else None
        ),
    }


def learnt_only(samples: TrainSamples, record: RolloutRecord) -> TrainSamples:
    """The samples of a record without the answers that were declined, or cut off and masked.

    What is left adds up to the whole loss: as if those had not been sampled.
    """
    rows = record.is_learnt.nonzero().flatten()
    return samples if len(rows) == len(record.batch) else samples.select(rows)


def plain_records(team: Sequence[RolloutRecord], agent: int) -> list[RolloutRecord]:
    """Partners' answers to the plain query: the pioneer's; where nobody sees any, everybody's."""
    return [
        record
        for record in team
        if record.generation.agent != agent and not record.generation.num_references
    ]


def transfer_back_samples(
    team: Sequence[RolloutRecord], args: CORYConfig
) -> tuple[list[TrainSamples], dict[str, float]]:
    """Training samples for transfer back: answers that beat the pioneer's, with the plain query.

        weight · Σ_{t of better answers} −log π(w_t | s0, w_<t) / (tokens of all later answers)

    An answer with references in view is better if it earned more than the pioneer's answer that it
    saw. Pairs of which one was declined, or the better one masked, are left out, and so are the
    tokens of such answers.

    Returns:
        samples, none if no answer is better, and their metrics.
    """
    later = [record for record in team if record.generation.num_references]
    if not args.transfer_back_weight or not later:
        return [], {}
    pioneer = team[0]
    better = [record.is_learnt & is_better(record, pioneer) for record in later]
    compared = torch.cat([record.is_learnt & pioneer.is_paid for record in later])
    share = float(torch.cat(better).sum() / compared.sum().clamp(min=1))
    metrics = {"transfer_back/share": share}
    if not share:
        return [], metrics
    chosen = [
        (pioneer.generation.prompt_ids[row], record.generation.response_ids[row])
        for record, rows in zip(later, better, strict=True)
        for row in rows.nonzero().flatten().tolist()
    ]
    prompts, answers = zip(*chosen, strict=True)
    batch = make_batch(prompts, answers, device=pioneer.batch.input_ids.device)
    num_tokens = sum(int(record.learning_mask.sum()) for record in later)
    samples = TrainSamples(
        batch=batch,
        # The likelihood takes no ratio to them.
        old_logprobs=torch.zeros_like(batch.response_mask, dtype=torch.float32),
        advantages=batch.response_mask.float(),
        weight=args.transfer_back_weight * batch.num_tokens / num_tokens,
        policy_loss=likelihood_loss,
        name="transfer_back/",
    )
    return [samples], metrics


def is_better(record: RolloutRecord, pioneer: RolloutRecord) -> Bool[Tensor, " B"]:
    """Whether each answer earned more than the answer of the pioneer that it saw.

    Neither was declined then: no comparison with NaN is true.
    """
    return record.task_reward > pioneer.task_reward


def behaviour_logprobs(record: RolloutRecord, args: CORYConfig) -> Float[Tensor, "B T"]:
    """Log-probabilities of whoever drew the answers: log μ where it is to count, else log π_old."""
    corrects = args.vllm_importance_sampling_clip_max is not None
    counts = corrects or args.recompute_logprobs is False
    logprobs = record.generation.logprobs if counts else None
    return record.scores.logprobs if logprobs is None else logprobs


def correct_sampler_mismatch(
    samples: TrainSamples, metrics: Mapping[str, float], record: RolloutRecord, args: CORYConfig
) -> tuple[TrainSamples, dict[str, float]]:
    """Make an agent's own answers, drawn by another engine, fit to learn from.

    The policy loss is an expectation over μ, and stays one over π_old by the weights

        c_t = min(π_old(w_t) / μ(w_t), vllm_importance_sampling_clip_max)

    on the advantages (`algorithm.advantages.truncated_importance`; the clip stays around π_old:
    Hilton et al., arXiv 2110.00641). With `recompute_logprobs=False` the ratio ρ is taken to μ
    itself, and there is nothing to weight. Returns, values and KL are as they were.

    Args:
        samples: its answers, as if π_old had drawn them.
        metrics: measured so far.
        record: of the same answers.
        args: settings.

    Returns:
        the samples, and the metrics with those of the difference between π_old and μ; both as they
        were if this process drew the answers.
    """
    logprobs, mask = record.generation.logprobs, record.batch.response_mask
    if logprobs is None:
        return samples, dict(metrics)
    own, cap = record.scores.logprobs, args.vllm_importance_sampling_clip_max
    difference = (own - logprobs)[mask]
    importance = truncated_importance(own, logprobs, math.inf if cap is None else cap)
    measured = {
        **metrics,
        "engine_logprob_difference": float(difference.abs().mean()),
        "engine_logprob_difference_max": float(difference.abs().max()),
        "engine_kl": float(-difference.mean()),
        "engine_importance": float(importance[mask].mean()),
    }
    if args.recompute_logprobs is False:
        return replace(samples, old_logprobs=logprobs), measured
    if cap is None:
        return samples, measured
    return replace(samples, advantages=samples.advantages * importance), measured
