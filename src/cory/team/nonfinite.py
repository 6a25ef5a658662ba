"""What keeps nan and inf out of an agent's weights.

Legend: B sequences, T response columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from cory.io.errors import CoryRuntimeError
from cory.models.batch import Batch
from cory.models.policy import Policy
from cory.team.train_samples import TrainSamples

LARGEST_RUN_OF_SKIPS = 2
"""Optimizer steps in a row that may be skipped; one more stops the run."""


def is_finite(measured: Mapping[str, Tensor]) -> bool:
    """Whether the losses and the gradient of a mini-batch are: only then may a step be taken."""
    decisive = (key for key in measured if key == "grad_norm" or key.endswith("_loss"))
    return all(bool(measured[key].isfinite()) for key in decisive)


class NotFiniteError(CoryRuntimeError):
    """Loss or gradients were nan or inf in one step after the other."""


def not_finite(
    name: str, step: int, policy: Policy, samples: Iterable[TrainSamples], temperature: float
) -> NotFiniteError:
    """The error that ends a run, with the first sample that explains it.

    Args:
        name: of the agent.
        step: of the iteration, from 0 on.
        policy: of the agent, with the weights that it had before the update.
        samples: what the update was to learn from.
        temperature: of sampling.
    """
    found = [_culprit(policy, one, temperature) for one in samples]
    sample = next(filter(None, found), "every sample by itself is finite")
    return NotFiniteError(
        f"{name}: loss or gradients were nan or inf in {LARGEST_RUN_OF_SKIPS + 1} optimizer steps "
        f"in a row, the last in iteration {step + 1}; {sample}. None of them was taken. A lower "
        "learning_rate or float32 in place of bfloat16 may help"
    )


@torch.no_grad()
def _culprit(policy: Policy, one: TrainSamples, temperature: float) -> str:
    """The first sequence with something that is not finite, in words; '' if there is none."""
    batch = one.batch
    known = {
        "log-probabilities when sampled": one.old_logprobs,
        "values": one.old_values,
        "returns": one.returns,
        "advantages": one.advantages,
    }
    for what, numbers in known.items():
        if numbers is not None and not numbers.isfinite().all():
            return _in_words(batch, int((~numbers.isfinite()).any(1).nonzero()[0]), what)
    for row in range(len(batch)):
        alone = batch.select(torch.tensor([row], device=batch.input_ids.device))
        hidden = policy.response_hidden(alone)
        logprobs = policy.logprobs(hidden, alone.response_tokens, temperature)
        for what, now in (("log-probabilities", logprobs), ("values", policy.values(hidden))):
            if not now.isfinite().all():
                return _in_words(batch, row, f"new {what}")
    return ""


def _in_words(batch: Batch, row: int, what: str) -> str:
    ids = batch.input_ids[row, : int(batch.lengths[row])].tolist()
    return f"sample {row} is the first with such {what}; its token ids are {ids}"
