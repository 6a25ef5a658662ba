"""The optimizer of a team, and its learning rate as a function of the step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from cory.config import CORYConfig


def make_optimizer(policies: Sequence[Any], args: CORYConfig) -> torch.optim.Optimizer:
    """One AdamW for the team, with a parameter group per agent.

    Raises:
        ValueError: weights have 16 bits, in which a step is lost or far too long.
    """
    for weight in (weight for policy in policies for weight in policy.trainable_parameters()):
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"weights in {str(weight.dtype).removeprefix('torch.')} would be trained, in which "
                "most steps are lost to rounding: load the model in float32 (dtype='float32', or "
                "model.float()) and set bf16=True for products in bfloat16; or train adapters "
                "(use_peft=True), whose own weights are float32 on a base in any format"
            )
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
        scheduler = get_scheduler(
            name,
            optimizer,
            args.warmup_steps,
            args.max_steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
    except (TypeError, ValueError) as error:
        further = args.lr_scheduler_kwargs
        given = "" if further is None else f" with lr_scheduler_kwargs={further}"
        raise ValueError(f"lr_scheduler_type={name!r}{given} cannot be used: {error}") from error
    if not isinstance(scheduler, LambdaLR):
        raise ValueError(
            f"lr_scheduler_type={name!r} watches a loss, which this training has not: choose "
            "constant, linear, cosine or another function of the step"
        )
    return scheduler


def next_iteration(scheduler: LambdaLR) -> None:
    """Let the rate follow the iterations, also those in which no step of the optimizer was taken.

    torch warns where a schedule begins before the optimizer.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        scheduler.step()
