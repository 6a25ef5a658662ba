"""How a run joins the processes that accelerate or torchrun has started."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, InitProcessGroupKwargs

from cory.config import CORYConfig
from cory.distributed.world import SINGLE, Processes, World

ALONE_OR_ALIKE = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
    DistributedType.MULTI_NPU,
)
"""What accelerate may have been configured for."""


def make_accelerator(args: CORYConfig) -> Accelerator:
    """The device, the trackers, and the process group, if several processes were started.

    Raises:
        ValueError: accelerate is configured for something that cory does not do.
    """
    trackers: Any = args.report_to
    # On a CPU, accelerate joins other processes only where it is told that it is one.
    is_on_cpu = args.use_cpu or not torch.accelerator.is_available()
    timeout = InitProcessGroupKwargs(timeout=timedelta(seconds=args.ddp_timeout))
    accelerator = Accelerator(
        cpu=is_on_cpu,
        log_with=trackers,
        project_dir=args.output_dir,
        kwargs_handlers=[timeout],
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    check_launch(accelerator.distributed_type, accelerator.num_processes, started)
    return accelerator


def check_launch(kind: DistributedType, joined: int, started: int) -> None:
    """Refuse what cannot be trained on.

    Args:
        kind: what accelerate is configured for.
        joined: processes that accelerate has joined.
        started: processes that there are.

    Raises:
        ValueError: they are of a kind that cory does not use, or each would train alone.
    """
    if kind not in ALONE_OR_ALIKE:
        raise ValueError(
            f"accelerate is configured for {kind.value}, which cory does not use: launch with "
            "--multi_gpu (or torchrun), and set shard_weights=True (--shard_weights) if one device "
            "cannot hold the team"
        )
    if joined != started:
        raise ValueError(
            f"{started} processes were started (WORLD_SIZE), but accelerate has joined {joined}: "
            "start one process per accelerator, or set use_cpu=True (--use_cpu)"
        )


def make_world(accelerator: Accelerator, args: CORYConfig) -> World:
    """All processes of the run, this one among them."""
    return Processes(args.ddp_timeout) if accelerator.num_processes > 1 else SINGLE
