"""Answers of models that were evaluated before, found again by the content they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import torch
from filelock import FileLock

from cory.generation.local import LocalSampler, Sampler
from cory.io.files import is_file, refuse_links, replace_text, writing
from cory.models.policy import LanguageModel, Policy


class Answered(NamedTuple):
    """What one policy answered, and how its answers score under it and the reference."""

    response_ids: list[list[int]]
    scores: dict[str, float]


class KnownAnswers:
    """Answers by the digest of everything that makes them, in memory and in a directory.

    One object serves one evaluation, during which no weight changes. Rewards are no part of it:
    reward functions may ask a server or draw at random, so they are called each time.

    Args:
        ground: what makes numbers beside models and prompts: settings, code, libraries, machine.
        directory: shared with other processes; None: nothing is kept.
    """

    def __init__(self, ground: Mapping[str, Any], directory: Path | None = None) -> None:
        self.ground = ground
        self.directory = directory
        self.in_memory: dict[str, str] = {}
        self.digests: dict[int, str] = {}

    def get(
        self,
        request: Mapping[str, Any],
        shape: tuple[int, int],
        answer: Callable[[], list[Answered]],
    ) -> list[Answered]:
        """The answers to a request; `answer` is called where nobody has them.

        A process that wants what another one is computing waits for it.

        Args:
            request: what makes the answers beside the ground, as JSON values.
            shape: how many policies answer, and how many answers each gives.
            answer: computes them.

        Raises:
            OutputError: the directory cannot be written.
            ValueError: links in the directory lead elsewhere.
        """
        identity = json.dumps([self.ground, request], sort_keys=True)
        key = hashlib.sha256(identity.encode()).hexdigest()
        if key in self.in_memory:
            return _read(self.in_memory[key])
        if self.directory is None:
            found = answer()
            self.in_memory[key] = json.dumps(found)
            return found
        path = self.directory / f"{key}.json"
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        lock = f".{key}.lock"
        refuse_links(self.directory, path.name, lock)
        # The operating system drops the lock of a process that ends, however it does.
        with FileLock(self.directory / lock):
            text = path.read_text(encoding="utf-8", errors="replace") if is_file(path) else ""
            if not _is_whole(text, shape):
                text = json.dumps(answer())
                replace_text(path, text)
        self.in_memory[key] = text
        return _read(text)

    def digest(self, model: LanguageModel) -> str:
        """The digest of a model's weights and settings."""
        if id(model) not in self.digests:
            self.digests[id(model)] = model_digest(model)
        return self.digests[id(model)]


def _read(text: str) -> list[Answered]:
    return [Answered(*one) for one in json.loads(text)]


def _is_whole(text: str, shape: tuple[int, int]) -> bool:
    """Whether a file holds what `KnownAnswers` writes; somebody may have changed it."""
    try:
        answered = _read(text)
        return len(answered) == shape[0] and all(
            len(one.response_ids) == shape[1]
            and all(type(token) is int for row in one.response_ids for token in row)
            and all(type(number) is float for number in one.scores.values())
            for one in answered
        )
    except (AttributeError, TypeError, ValueError):
        return False


def is_known_by_content(sampler: Sampler, policies: Sequence[Policy]) -> TypeGuard[LocalSampler]:
    """Whether weights, settings and code at hand determine what policies answer.

    A server has weights of its own, and other processes theirs. Code that came with a model, and
    the scales of quantised weights, are not seen in a digest.
    """
    return (
        isinstance(sampler, LocalSampler)
        and sampler.world.size == 1
        and all(
            type(policy.model).__module__.startswith("transformers.")
            and all(
                weight.is_floating_point() and type(weight.data) is torch.Tensor
                for weight in policy.model.parameters()
            )
            for policy in policies
        )
    )


def model_digest(language_model: LanguageModel) -> str:
    """SHA-256 of a model: class, settings, and every weight and buffer by name.

    Of adapters on a shared base all count, and which one is this agent's.
    """
    model = language_model.model
    weights = getattr(language_model, "weights", None)
    adapters = getattr(getattr(weights, "peft_model", None), "peft_config", {})
    facts = {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
        "bf16": language_model.bf16,
        "adapter": getattr(weights, "name", None),
        "adapters": {name: config.to_dict() for name, config in adapters.items()},
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=_plain).encode())
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A value of a setting as JSON holds it; sets have an order then."""
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)
