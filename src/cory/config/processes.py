"""Settings of runs on several processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """Training on several processes (accelerate launch, torchrun)."""

    shard_weights: bool = False
    """Spread each full copy, its gradients and moments, and the reference over the processes
    (FSDP2), for models that one device cannot hold. One process holds everything."""
    ddp_timeout: int = 600
    """Seconds after which a process that waits for another one gives up; the slowest call of a
    reward function must fit. One that has ended is noticed at once."""
