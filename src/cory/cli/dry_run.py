"""`cory train --dry_run`: everything checked and measured once, and nothing written."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
import yaml

from cory.config import CORYConfig
from cory.io.terminal import write
from cory.training.cards import card_facts
from cory.training.trainer import CORYTrainer

SLOW = 60.0
"""Seconds of a first iteration after which its time is taken, warm-up or not."""


def dry_run(args: CORYConfig) -> None:
    """Build a training, run an iteration or two of it, and print what it would be.

    Models, data, reward functions and settings are loaded and checked as by a training; the reward
    functions are called. No file of a run is written.

    Raises:
        ValueError: something does not fit, as in a training.
    """
    trainer = CORYTrainer(args=args.replace(log_samples_steps=None))
    seconds = _seconds_per_iteration(trainer)
    if trainer.world.is_main:
        settings = yaml.safe_dump(args.to_dict(), sort_keys=False, allow_unicode=True).rstrip()
        facts = _facts(trainer, seconds)
        width = max(map(len, facts))
        lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
        write("\n".join([settings, "", *lines, "", "dry run: nothing was trained or written"]))
    trainer.world.close()


def _seconds_per_iteration(trainer: CORYTrainer) -> float:
    """Of the second one, as the first warms up; of the first if it is slow or the only one."""
    seconds = 0.0
    for step in range(min(2, trainer.args.max_steps)):
        started = time.perf_counter()
        trainer.iterate(step)
        seconds = time.perf_counter() - started
        if seconds > SLOW:
            break
    return seconds


def _facts(trainer: CORYTrainer, seconds: float) -> dict[str, str]:
    args, facts = trainer.args, card_facts(trainer)
    every = sum(weight.numel() for weight in trainer.policies[0].weights.model.parameters())
    own = [
        sum(weight.numel() for weight in policy.language_parameters())
        for policy in trainer.policies
    ]
    evaluations = 1 + (0 if args.eval_steps is None else args.max_steps // args.eval_steps)
    hours = seconds * args.max_steps / 3600
    return {
        "model": f"{facts.base or 'an object'}, {every:,} weights",
        "trained": f"{len(own)} agents, {own[0]:,} weights each"
        + (" (an adapter)" if facts.is_adapter else " (a full copy)"),
        "data": facts.data,
        "reward": ", ".join(f"{name} × {weight:g}" for name, weight in facts.rewards.items()),
        "device": str(trainer.accelerator.device),
        "memory": f"{_peak_gigabytes():.1f} GB at the peak of an iteration, measured",
        "time": f"{seconds:.1f} s per iteration, measured; about {hours:.1f} h for "
        f"{args.max_steps} iterations, without {evaluations} evaluations",
        "output_dir": args.output_dir,
    }


def _peak_gigabytes() -> float:
    """Most memory so far: of the accelerator if there is one, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    unit: Any = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
