"""What an agent owns of a language model: a full copy, or one adapter on a shared frozen base."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, PreTrainedModel


@runtime_checkable
class Weights(Protocol):
    """The language-model weights of one agent."""

    model: PreTrainedModel

    def activate(self) -> AbstractContextManager[None]:
        """Context in which `model` computes with these weights."""
        ...

    def owns(self, name: str) -> bool:
        """Whether the parameter of that name in `model` is among these weights."""
        ...

    def save(self, directory: Path) -> None:
        """Write them so that plain transformers or peft loads the directory."""
        ...

    def load(self, directory: Path) -> None:
        """Take them over from a directory that `save` wrote."""
        ...


class FullCopy:
    """A whole model of one's own."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.requires_grad_(True)

    def activate(self) -> nullcontext[None]:
        return nullcontext()

    def owns(self, name: str) -> bool:
        return True

    def save(self, directory: Path) -> None:
        self.model.save_pretrained(directory)

    def load(self, directory: Path) -> None:
        saved = AutoModelForCausalLM.from_pretrained(directory, dtype=self.model.dtype)
        self.model.load_state_dict(saved.state_dict())


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

    def owns(self, name: str) -> bool:
        return f".{self.name}." in f"{name}."

    def save(self, directory: Path) -> None:
        # peft writes an adapter into a folder of the adapter's name.
        self.peft_model.save_pretrained(str(directory.parent), selected_adapters=[self.name])
        if directory.name != self.name:
            (directory.parent / self.name).replace(directory)

    def load(self, directory: Path) -> None:
        saved = load_peft_weights(str(directory), device=str(self.model.device))
        set_peft_model_state_dict(self.peft_model, saved, adapter_name=self.name)
