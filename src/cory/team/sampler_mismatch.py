"""Correction for answers drawn by another engine, whose numbers are near the trainer's, not equal.

Legend: B sequences, T response columns. μ is the distribution that the engine drew from, π_old the
trainer's computation of the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from cory.algorithm.advantages import truncated_importance
from cory.config import CORYConfig
from cory.team.rollout import recomputes_logprobs
from cory.team.train_samples import TrainSamples
from cory.team.types import RolloutRecord


def behaviour_logprobs(record: RolloutRecord, args: CORYConfig) -> Float[Tensor, "B T"]:
    """Log-probabilities of whoever drew the answers: log μ where it is to count, else log π_old."""
    corrects = args.vllm_importance_sampling_clip_max is not None
    counts = corrects or not recomputes_logprobs(args)
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
    if not recomputes_logprobs(args):
        return replace(samples, old_logprobs=logprobs), measured
    if cap is None:
        return samples, measured
    return replace(samples, advantages=samples.advantages * importance), measured
