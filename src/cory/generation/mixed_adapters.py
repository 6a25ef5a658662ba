"""Agents that speak at the same time, their adapters in one batch on the base that they share.

Decoding a few sequences takes as long as reading the weights from memory. A batch in which every
row has an adapter of its own reads the base once for all agents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Int
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from cory.generation.cuda_graph import has_fixed_shapes
from cory.models.adapter_kinds import beyond_plain_lora
from cory.models.lora import RowMask, held_factors
from cory.models.policy import LanguageModel, Policy
from cory.models.weights import Adapter


def can_be_mixed(policies: Sequence[Policy]) -> bool:
    """Whether policies are plain LoRA adapters on one base, on a device where mixing them pays.

    It does not where decoding is replayed as a graph: peft picks out each adapter's rows by lists
    of the host.
    """
    weights = [policy.weights for policy in policies]
    first = weights[0]
    return (
        len(policies) > 1
        and not has_fixed_shapes(policies[0])
        and isinstance(first, Adapter)
        and all(
            isinstance(other, Adapter)
            and other.peft_model is first.peft_model
            and not beyond_plain_lora(other.peft_model, other.name)
            for other in weights
        )
    )


class MixedAdapters(LanguageModel):
    """Several agents as one language model: each row of a batch has an agent of its own.

    Args:
        policies: see `can_be_mixed`.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        first = policies[0]
        super().__init__(first.model, first.weights.activate, first.bf16)
        self.names = [getattr(policy.weights, "name", "") for policy in policies]
        self.mask = RowMask()
        self.agents: list[int] = []

    def set_rows(self, agents: Sequence[int]) -> None:
        """Say whose adapter each row of a batch has, before the batch is read."""
        self.agents = list(agents)
        chosen = torch.tensor(self.agents, device=self.device)
        self.mask.adapters = nn.functional.one_hot(chosen, len(self.names)).float()

    def select_rows(self, rows: Int[Tensor, " B"]) -> None:
        self.set_rows([self.agents[row] for row in rows.tolist()])

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Context in which LoRA layers give each row its own adapter; for inference only."""

        def name_rows(_: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
            names = [self.names[agent] for agent in self.agents]
            return inputs, {**options, "adapter_names": names}

        with ExitStack() as contexts:
            contexts.enter_context(held_factors(self.model, self.names, self.mask))
            contexts.enter_context(super().sampling())
            for layer in self.model.modules():
                if isinstance(layer, LoraLayer) and getattr(layer, "factors", None) is None:
                    hook = layer.register_forward_pre_hook(name_rows, with_kwargs=True)
                    contexts.enter_context(hook)
            yield
