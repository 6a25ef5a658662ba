"""What an agent owns of a language model: a full copy, or one adapter on a shared frozen base."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora import LoraModel
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from cory.distributed.fsdp import full_state_dict, shard_like
from cory.models.adapter_kinds import beyond_plain_lora, check_same_config, check_same_weights
from cory.models.complete import check_complete
from cory.models.lora import held_factors
from cory.models.pickles import refuse_pickled_adapter, refuse_pickled_weights

MERGED = "merged"
"""Name of the mean of a team's agents."""


@contextmanager
def replaced(weights: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Put other values into weights; afterwards they have their own again, bit for bit."""
    own = [weight.detach().clone() for weight in weights]
    try:
        _put(values, weights)
        yield
    finally:
        _put(own, weights)


@torch.no_grad()
def _put(values: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


@torch.no_grad()
def weighted_sum(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Σ_i w_i x_i, in float32 at least."""
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return torch.stack([w * x.to(dtype) for w, x in zip(shares, tensors, strict=True)]).sum(0)


@runtime_checkable
class Weights(Protocol):
    """The language-model weights of one agent."""

    model: PreTrainedModel

    def activate(self) -> AbstractContextManager[None]:
        """Context in which `model` computes with these weights."""
        ...

    def sampling(self) -> AbstractContextManager[None]:
        """`activate`, for many passes without a gradient between which no weight changes."""
        ...

    def owns(self, name: str) -> bool:
        """Whether the parameter of that name in `model` is among these weights."""
        ...

    def save(self, directory: Path, writes: bool = True) -> None:
        """Write them so that plain transformers or peft loads the directory.

        Args:
            directory: to write.
            writes: False where another process does; sharded weights are gathered from all.
        """
        ...

    def load(self, directory: Path) -> None:
        """Take them over from a directory that `save` wrote.

        Raises:
            ValueError: it holds others than these.
        """
        ...

    def merged(
        self, others: Sequence[Weights], shares: Sequence[float]
    ) -> AbstractContextManager[Weights]:
        """Context in which there are weights whose difference to the start is the mean of theirs.

        θ_0 + Σ_i w_i (θ_i − θ_0), the w_i being the shares of these and the others, with sum 1.

        Raises:
            ValueError: their mean cannot be written as weights of this kind.
        """
        ...


def check_finite(weights: Mapping[str, Tensor], where: str | Path) -> None:
    """Refuse weights with which a model computes nothing.

    Args:
        weights: by name.
        where: they come from, for a message.

    Raises:
        ValueError: names a weight.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise ValueError(f"{where} has numbers in {name} that are not finite")


class FullCopy:
    """A whole model of one's own. What its owner has frozen stays frozen.

    Raises:
        ValueError: nothing of it can be trained.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.trained = frozenset(
            name for name, weight in model.named_parameters() if weight.requires_grad
        )
        if not self.trained:
            raise ValueError(
                "every weight of the model is frozen: unfreeze what is to be trained, with "
                "model.requires_grad_(True) or weight by weight"
            )

    def activate(self) -> nullcontext[None]:
        return nullcontext()

    sampling = activate

    def owns(self, name: str) -> bool:
        return name in self.trained

    def save(self, directory: Path, writes: bool = True) -> None:
        weights = full_state_dict(self.model)
        if writes:
            self.model.save_pretrained(directory, state_dict=weights)

    def load(self, directory: Path) -> None:
        if (directory / "adapter_config.json").is_file():
            raise ValueError(
                f"{directory} holds an adapter, but this run trains full copies: resume with the "
                "use_peft, peft_config and model that the run began with"
            )
        refuse_pickled_weights(directory, "AutoModelForCausalLM")
        # The class at hand, so that no code of the directory is asked for.
        loaded: Any = type(self.model).from_pretrained(
            directory,
            config=copy.deepcopy(self.model.config),
            dtype=self.model.dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        saved, report = loaded
        own = self.model.state_dict()
        try:
            check_complete(report, own)
        except ValueError as error:
            raise ValueError(f"{directory} is of another architecture: {error}") from error
        if others := sorted(report["unexpected_keys"]):
            raise ValueError(f"{directory} is of another architecture: it has {others[0]}")
        check_finite(saved.state_dict(), directory)
        self.model.load_state_dict(
            {name: shard_like(weight, own[name]) for name, weight in saved.state_dict().items()}
        )

    @contextmanager
    def merged(self, others: Sequence[Weights], shares: Sequence[float]) -> Iterator[Weights]:
        """For the time being these weights are the mean."""
        parameters = [list(weights.model.parameters()) for weights in (self, *others)]
        means = [weighted_sum(same, shares) for same in zip(*parameters, strict=True)]
        with replaced(parameters[0], means):
            yield self


class Adapter:
    """One adapter on a base that other agents share.

    Args:
        peft_model: the base with everybody's adapters.
        name: of the adapter.
        is_trainable: False for an adapter that serves as the reference.
    """

    def __init__(self, peft_model: PeftModel, name: str, is_trainable: bool = True) -> None:
        self.peft_model = peft_model
        self.model = cast(PreTrainedModel, peft_model.get_base_model())
        self.name = name
        self.is_trainable = is_trainable

    @contextmanager
    def activate(self) -> Iterator[None]:
        """The adapter stays active afterwards, as a backward pass may recompute activations."""
        if self.peft_model.active_adapter != self.name:
            self.peft_model.set_adapter(self.name, inference_mode=not self.is_trainable)
        yield

    @contextmanager
    def sampling(self) -> Iterator[None]:
        with self.activate(), held_factors(self.model, [self.name]):
            yield

    def owns(self, name: str) -> bool:
        return f".{self.name}." in f"{name}."

    def save(self, directory: Path, writes: bool = True) -> None:
        if not writes:
            return
        # peft writes an adapter into a folder of the adapter's name.
        self.peft_model.save_pretrained(str(directory.parent), selected_adapters=[self.name])
        if directory.name != self.name:
            (directory.parent / self.name).replace(directory)

    def load(self, directory: Path) -> None:
        refuse_pickled_adapter(directory)
        check_same_config(directory, self.peft_model.peft_config[self.name])
        saved = load_peft_weights(str(directory), device=str(self.model.device))
        own = get_peft_model_state_dict(
            self.peft_model, adapter_name=self.name, save_embedding_layers=False
        )
        check_same_weights(directory, saved, own, self.peft_model.state_dict())
        check_finite(saved, directory)
        set_peft_model_state_dict(self.peft_model, saved, adapter_name=self.name)

    @contextmanager
    def merged(self, others: Sequence[Weights], shares: Sequence[float]) -> Iterator[Weights]:
        """An adapter with the ranks of all together: its update is the mean of theirs, exactly.

        With A = [w_1 s_1 A_1; w_2 s_2 A_2; …], B = [B_1 B_2 …] and scale 1, B A = Σ w_i s_i B_i A_i
        (peft's combination "cat"). Means of the factors themselves would not have that product.
        """
        names = [cast(Adapter, weights).name for weights in (self, *others)]
        check_mergeable(self)
        tuner = cast(LoraModel, self.peft_model.base_model)
        tuner.add_weighted_adapter(names, list(shares), MERGED, combination_type="cat")
        try:
            yield Adapter(self.peft_model, MERGED, is_trainable=False)
        finally:
            with self.activate():  # peft warns where the active adapter is deleted
                self.peft_model.delete_adapter(MERGED)


def check_mergeable(adapter: Adapter) -> None:
    """Refuse adapters whose mean no adapter is.

    Raises:
        ValueError: the adapter is not plain LoRA.
    """
    beyond = beyond_plain_lora(adapter.peft_model, adapter.name)
    if getattr(adapter.peft_model.peft_config[adapter.name], "use_rslora", False):
        beyond["use_rslora"] = True
    if beyond:
        raise ValueError(
            f"adapters with {beyond} have no exact mean as an adapter: use plain LoRA, or evaluate "
            "and use the agents one by one"
        )
