"""Joins the processes that accelerate or torchrun has started, and what they must agree on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, InitProcessGroupKwargs

from cory.config import CORYConfig
from cory.distributed.world import SINGLE, Processes, World
from cory.io.files import alone_in
from cory.io.signals import Interruption, Stopped

LIBRARIES = ("transformers", "datasets", "accelerate", "peft", "huggingface_hub")
"""Whose messages `log_level` is about."""
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
    set_log_level(args.log_level)
    trackers: Any = args.trackers or None
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
    if missing := set(args.trackers) - {*map(str, accelerator.log_with), "all"}:
        raise ValueError(
            f"report_to={args.report_to!r} names {missing.pop()!r}, which is not installed: "
            "install it (pip install with that name), or leave it away"
        )
    return accelerator


def set_log_level(name: str) -> None:
    """Show messages of the libraries from this level on: debug, info, warning or error."""
    level = getattr(logging, name.upper())
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(level)


def check_launch(kind: DistributedType, joined: int, started: int) -> None:
    """Refuse an accelerate that is configured for a `kind` that cory does not use.

    Also one that has `joined` fewer processes than were `started`: each would train alone.

    Raises:
        ValueError: with the fix.
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


@contextmanager
def first_alone_in(directory: Path, command: str, world: World) -> Iterator[None]:
    """`alone_in` by the first process, for all; raises the same."""
    with ExitStack() as stack:
        with world.fail_together():
            if world.is_main:
                stack.enter_context(alone_in(directory, command))
        yield


def reason_to_stop(interruption: Interruption, world: World) -> Stopped | None:
    """What all raise where one has been asked to end; None: nobody has.

    A signal may reach one process alone.
    """
    asked = [number for number in world.gather(interruption.requested) if number]
    return Stopped(asked[0]) if asked else None
