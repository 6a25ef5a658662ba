"""Settings: training on several processes."""

from __future__ import annotations

from dataclasses import dataclass

from cory.config.fields import POSITIVE, setting


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """Training on several processes (accelerate launch, torchrun)."""

    shard_weights: bool = setting(False, affects_result=False)
    """Shard full copies of the model over the processes (FSDP2): weights, gradients, optimizer
    moments and the reference. For models that do not fit on one device."""
    ddp_timeout: int = setting(600, POSITIVE, affects_result=False)
    """Seconds until a process stops waiting for another one. Must be longer than the slowest call
    of a reward function. A process that has ended is noticed at once."""
