"""The optimizer of a team, and its learning rate as a function of the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from cory.config import CORYConfig


def make_optimizer(policies: Sequence[Any], args: CORYConfig) -> torch.optim.Optimizer:
    """One AdamW for the team, with a parameter group per agent."""
    rates = args.learning_rate if isinstance(args.learning_rate, list) else [args.learning_rate]
    rates = rates * (len(policies) if len(rates) == 1 else 1)
    return torch.optim.AdamW(
        [
            {"params": policy.trainable_parameters(), "lr": rate}
            for policy, rate in zip(policies, rates, strict=True)
        ],
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        weight_decay=args.weight_decay,
        fused=True,
    )


def make_scheduler(optimizer: torch.optim.Optimizer, args: CORYConfig) -> LambdaLR:
    """The learning rate as a function of the step.

    Raises:
        ValueError: there is no such schedule, or it needs more than the number of steps.
    """
    name = args.lr_scheduler_type
    try:
        scheduler = get_scheduler(name, optimizer, args.warmup_steps, args.max_steps)
    except (TypeError, ValueError) as error:
        raise ValueError(f"lr_scheduler_type={name!r} cannot be used: {error}") from error
    if not isinstance(scheduler, LambdaLR):
        raise ValueError(
            f"lr_scheduler_type={name!r} watches a loss, which this training has not: choose "
            "constant, linear, cosine or another function of the step"
        )
    return scheduler
