"""What an iteration costs on one process and on several: CPU seconds, bytes sent, bytes held.

    python -m benchmarks.processes
    torchrun --nproc-per-node 2 -m benchmarks.processes [--shard_weights] [--SETTING VALUE …]

Settings are those of `cory train`. CPU seconds are those of this process, so that waiting for
others, or for a busy machine, does not count.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from cory.cli.options import make_parser, parse
from cory.config import CORYConfig
from cory.distributed.world import World
from cory.tasks import for_task
from cory.team.metrics import mean_of
from cory.training.trainer import CORYTrainer

BASE: dict[str, Any] = {
    "task": "pocket-reviews",
    "batch_size": 128,
    "max_steps": 4,
    "use_cpu": True,
    "log_samples_steps": None,
}
WARM_UP = 1


class Meter:
    """Counts what a world exchanges, in place of its own methods; not what FSDP2 does."""

    def __init__(self, world: World) -> None:
        self.count, self.bytes, self.seconds = 0, 0, 0.0
        world.gather_tensors = self._counting(world.gather_tensors, lambda own: own.nbytes)
        world.sum_gradients = self._counting(world.sum_gradients, _summed_bytes)

    def _counting(self, exchange: Callable[[Any], Any], size: Callable[[Any], int]) -> Any:
        def counted(own: Any) -> Any:
            own = own if isinstance(own, Tensor) else list(own)
            started = time.perf_counter()
            received = exchange(own)
            self.seconds += time.perf_counter() - started
            self.count += 1
            self.bytes += size(own)
            return received

        return counted


def _summed_bytes(parameters: Iterable[Any]) -> int:
    """Of gradients that are exchanged here; FSDP2 has exchanged those of sharded weights itself."""
    return _gradient_bytes(weight for weight in parameters if not isinstance(weight, DTensor))


def _gradient_bytes(parameters: Iterable[Any]) -> int:
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    return sum(local(gradient).nbytes for gradient in gradients)


def local(tensor: Any) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def held(trainer: CORYTrainer) -> dict[str, int]:
    """Bytes of this process after an iteration: weights, gradients of one agent, and moments."""
    models = [*trainer.policies, trainer.components.reference]
    weights = {id(weight): weight for model in models for weight in model.parameters()}
    trained = [weight for group in trainer.optimizer.param_groups for weight in group["params"]]
    moments = [
        moment
        for state in trainer.optimizer.state.values()
        for moment in state.values()
        if moment.ndim
    ]
    return {
        "weights": sum(local(weight).nbytes for weight in weights.values()),
        "gradients": _gradient_bytes(trained),
        "moments": sum(local(moment).nbytes for moment in moments),
    }


def measure(args: CORYConfig) -> dict[str, Any] | None:
    """Iterations after a warm-up, per iteration; None in a process that does not print."""
    with tempfile.TemporaryDirectory() as directory:
        trainer = CORYTrainer(args=args.replace(output_dir=directory))
        for step in range(WARM_UP):
            trainer.iterate(step)
        meter, cpu, wall = Meter(trainer.world), [], []
        for step in range(WARM_UP, args.max_steps):
            started = time.process_time(), time.perf_counter()
            trainer.iterate(step)
            cpu.append(time.process_time() - started[0])
            wall.append(time.perf_counter() - started[1])
        sizes = held(trainer)
        trainer.world.close()
        if not trainer.world.is_main:
            return None
        return {
            "processes": trainer.world.size,
            "cpu_seconds": round(mean_of(cpu), 3),
            "cpu_seconds_least": round(min(cpu), 3),
            "wall_seconds": round(mean_of(wall), 3),
            "exchanges": meter.count // len(cpu),
            "exchanged_bytes": meter.bytes // len(cpu),
            "exchange_wall_seconds": round(meter.seconds / len(cpu), 3),
            "held_bytes": sizes,
        }


def main(words: Sequence[str]) -> None:
    """Measure and print one line of JSON."""
    given, _ = parse(make_parser("python -m benchmarks.processes", __doc__ or ""), words)
    chosen = BASE | given
    task = chosen.pop("task")
    measured = measure(for_task(task, **chosen))
    if measured is not None:
        sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
