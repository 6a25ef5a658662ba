"""From TRL's batches and steps to those of an iteration of cory.

TRL takes an optimizer step on `per_device_train_batch_size × gradient_accumulation_steps ×
processes` answers, and samples `generation_batch_size` of them at once; it counts optimizer steps.
cory samples `batch_size` answers in an iteration, learns them in `num_ppo_epochs ×
num_mini_batches` optimizer steps, and counts iterations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Sizes of one iteration; `optimizer_steps` of TRL make one."""

    batch_size: int
    num_generations: int
    num_ppo_epochs: int
    num_mini_batches: int

    @property
    def queries(self) -> int:
        return self.batch_size // self.num_generations

    @property
    def optimizer_steps(self) -> int:
        return self.num_ppo_epochs * self.num_mini_batches


def group_sizes(args: Any, num_processes: int) -> Sizes:
    """Sizes of GRPO and RLOO.

    Raises:
        ValueError: TRL's own rules of these sizes are broken, or an optimizer step would need
            answers of several generations more than once.
    """
    per_step, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    micro = per_step * num_processes
    generated = args.generation_batch_size
    if generated is not None and generated != micro * (args.steps_per_generation or 0):
        if args.steps_per_generation is not None:
            raise ValueError(
                f"generation_batch_size={generated} and steps_per_generation="
                f"{args.steps_per_generation} say the same twice: leave one out"
            )
        if generated % micro:
            raise ValueError(
                f"generation_batch_size={generated} is not a multiple of "
                f"per_device_train_batch_size × processes = {micro}"
            )
    steps = args.steps_per_generation or (generated or micro * accumulated) // micro
    if steps % accumulated and (accumulated % steps or args.num_iterations > 1):
        raise ValueError(
            f"steps_per_generation={steps} and gradient_accumulation_steps={accumulated}: "
            "cory needs whole optimizer steps of one generation: make the first a multiple of "
            "the second"
        )
    # Generations between two optimizer steps are of one policy, so they are one.
    steps = max(steps, accumulated)
    batch_size, wanted = micro * steps, args.num_generations
    if not wanted or wanted < 2:
        raise ValueError(f"num_generations={wanted}: answers to one query are compared: set 2")
    if batch_size % wanted:
        raise ValueError(
            f"num_generations={wanted} does not divide the {batch_size} answers of a generation "
            f"(per_device_train_batch_size={per_step} × steps={steps} × processes="
            f"{num_processes}): set gradient_accumulation_steps or num_generations so that it does"
        )
    return Sizes(batch_size, wanted, args.num_iterations, steps // accumulated)


def classic_sizes(args: Any, num_processes: int) -> Sizes:
    """Sizes of PPO as in TRL 0.12 to 1.15, where a mini-batch is one optimizer step."""
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
    batch_size = per_step * num_processes * args.num_mini_batches
    return Sizes(batch_size, 1, args.num_ppo_epochs, args.num_mini_batches)


def iterations_per_epoch(sizes: Sizes, num_rows: int) -> int:
    """Iterations that ask each of the rows once; rows that fill no iteration are left over."""
    return max(1, num_rows // sizes.queries)


def num_iterations(args: Any, sizes: Sizes, num_rows: int | None) -> int:
    """Iterations of a training: as many as `max_steps` optimizer steps, or `num_train_epochs`.

    Raises:
        ValueError: neither says how many, as for a stream without max_steps.
    """
    episodes = getattr(args, "total_episodes", None)
    if episodes is not None:
        return math.ceil(episodes / sizes.batch_size)
    if args.max_steps > 0:
        return math.ceil(args.max_steps / sizes.optimizer_steps)
    if num_rows is None:
        raise ValueError("max_steps is needed where the rows of train_dataset cannot be counted")
    return max(1, math.ceil(args.num_train_epochs * iterations_per_epoch(sizes, num_rows)))


def period(steps: float, sizes: Sizes, total: int) -> int:
    """Iterations of a period in optimizer steps, or in a share of all of them if it is below 1."""
    wanted = steps * total if steps < 1 else steps / sizes.optimizer_steps
    return max(1, round(wanted))


def warmup(args: Any, sizes: Sizes, total: int) -> int:
    """Iterations of warm-up."""
    share = args.warmup_ratio or (args.warmup_steps if args.warmup_steps < 1 else 0)
    if share:
        return math.ceil(share * total)
    return round(args.warmup_steps / sizes.optimizer_steps)
