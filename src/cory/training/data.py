"""Which queries an iteration trains on, and which are held out."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset

from cory.algorithm.seeding import derive_generator
from cory.config import CORYConfig


class QueryOrder:
    """Shuffled passes over a data set, as a function of the step: nothing to save for a resume.

    Args:
        dataset: one query per row.
        args: settings; an iteration takes `batch_size / num_generations` queries.
    """

    def __init__(self, dataset: Dataset, args: CORYConfig) -> None:
        self.dataset = dataset
        self.seed = args.seed
        self.num_queries = args.batch_size // args.num_generations

    def at(self, step: int) -> list[dict[str, Any]]:
        """Rows of iteration `step`; a pass that ends in the middle is followed by the next one."""
        first = step * self.num_queries
        size = len(self.dataset)
        places = [divmod(position, size) for position in range(first, first + self.num_queries)]
        orders = {epoch: self._permutation(epoch) for epoch in {epoch for epoch, _ in places}}
        return [self.dataset[int(orders[epoch][place])] for epoch, place in places]

    def _permutation(self, epoch: int) -> torch.Tensor:
        generator = derive_generator(self.seed, "data", epoch)
        return torch.randperm(len(self.dataset), generator=generator)


def held_out_queries(dataset: Dataset, num_queries: int) -> list[dict[str, Any]]:
    """The first `num_queries` rows, the same in every run, whatever its seed."""
    return [dataset[row] for row in range(min(num_queries, len(dataset)))]
