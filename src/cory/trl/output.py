"""What `train()` of `cory.trl` returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import trainer_utils


class TrainOutput(trainer_utils.TrainOutput):
    """TRL's `(global_step, training_loss, metrics)`, which also reads as a mapping of its metrics.

    >>> output = TrainOutput(3, 0.5, {"train_loss": 0.5})
    >>> output.global_step, output["train_loss"], dict(output)
    (3, 0.5, {'train_loss': 0.5})
    """

    def __getitem__(self, key: Any) -> Any:
        return self.metrics[key] if isinstance(key, str) else super().__getitem__(key)

    def keys(self) -> Iterator[str]:
        """The names of the metrics."""
        return iter(self.metrics)
