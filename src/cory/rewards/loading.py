"""From the names of reward functions to the functions."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from transformers import PreTrainedModel

from cory.io.signals import Stopped
from cory.rewards.calling import RewardFunc
from cory.rewards.classifier import ClassifierReward
from cory.rewards.isolation import state_put_back
from cory.rewards.values import described

if TYPE_CHECKING:
    from cory.config import CORYConfig

T = TypeVar("T")


def reward_device(args: CORYConfig) -> torch.device:
    """Where reward models run: the accelerator if there is one and `use_cpu` allows it."""
    accelerator = None if args.use_cpu else torch.accelerator.current_accelerator()
    return accelerator or torch.device("cpu")


def load_reward_funcs(
    reward_funcs: Any,
    reward_processing_classes: Any = None,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
) -> list[RewardFunc]:
    """Reward functions from functions, names or models, alone or in a list.

    A string is one of

    - `package.module.function`, an import path;
    - `path/to/file.py:function`;
    - the Hub name or directory of a sequence-classification model, or an embedded asset
      (`ClassifierReward`). A directory whose name could be an import path is a model.

    Args:
        reward_processing_classes: tokenizers of the reward models, one for all or one for each of
            `reward_funcs`; None takes the model's own.
        device: of the reward models.
        trust_remote_code: run code that comes with them.

    Raises:
        ValueError: a name leads nowhere, a module cannot be imported, or a model is not a
            classifier of one or two labels.
    """
    specifications = (
        list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    )
    if not isinstance(reward_processing_classes, list | tuple):
        reward_processing_classes = [reward_processing_classes] * len(specifications)
    if len(reward_processing_classes) != len(specifications):
        raise ValueError(
            f"{len(reward_processing_classes)} reward_processing_classes for {len(specifications)} "
            "reward_funcs; give one to each, None where it takes none."
        )
    pairs = zip(specifications, reward_processing_classes, strict=True)
    with state_put_back():  # a user's module may change it when it is imported
        return [_load(*pair, device, trust_remote_code) for pair in pairs]


def _load(
    specification: Any, tokenizer: Any, device: torch.device | str, trust_remote_code: bool
) -> RewardFunc:
    if isinstance(specification, str):
        is_directory = _is_directory(specification)
        if specification.endswith(".py"):
            raise ValueError(
                f"Reward function {specification!r} names a file: add the function, as in "
                f"{specification}:accuracy."
            )
        path, colon, name = specification.rpartition(":")
        if colon and path.endswith(".py"):
            return _function(_module_from_file(Path(path).expanduser()), name, specification)
        module_name, _, name = specification.rpartition(".")
        is_dotted = module_name and all(map(str.isidentifier, specification.split(".")))
        if is_dotted and not is_directory:
            return _function(_module(module_name, specification), name, specification)
    # A model is callable, too, so it comes before callables.
    if isinstance(specification, str | PreTrainedModel):
        return ClassifierReward(specification, tokenizer, device, trust_remote_code)
    if not callable(specification):
        raise ValueError(
            f"{specification!r} in reward_funcs is neither a function, nor a name, nor a "
            "sequence-classification model; pass one of these."
        )
    return specification


def _is_directory(specification: str) -> bool:
    try:
        return Path(specification).is_dir()
    except OSError as error:
        raise ValueError(
            f"Reward {specification!r:.99} is no name of a function, a file or a model: "
            f"{error.strerror}."
        ) from error


def _module(module_name: str, specification: str) -> ModuleType:
    try:
        return _imported(module_name, lambda: importlib.import_module(module_name))
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Reward function {specification!r}: there is no module {error.name!r}. Install it, or "
            "name the file instead: path/to/file.py:function."
        ) from error


def _module_from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"Reward function in {str(path)!r}: no such file; check the path.")
    path = path.resolve()
    name = f"cory_rewards_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, f"{path} ends in .py"
    assert spec.loader is not None, f"{path} ends in .py"
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a class up in its module.
    sys.modules[name] = module
    try:
        _imported(str(path), partial(spec.loader.exec_module, module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _imported(what: str, load: Callable[[], T]) -> T:
    """What an import gives; whatever a user's module raises is an error that names the module.

    Raises:
        ModuleNotFoundError: there is no such module.
        ValueError: the module cannot be imported.
    """
    try:
        return load()
    except (KeyboardInterrupt, Stopped):
        raise
    except BaseException as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{what}.".startswith(f"{absent}."):
            raise
        raise ValueError(
            f"Reward functions in {what!r} cannot be loaded: importing it raised "
            f"{described(error)}. Repair the file, or install what it needs."
        ) from error


def _function(module: ModuleType, name: str, specification: str) -> Callable[..., Any]:
    function = _imported(specification, lambda: getattr(module, name, None))
    if not callable(function):
        functions = [
            found
            for found, value in vars(module).items()
            if callable(value) and not found.startswith("_")
        ]
        raise ValueError(
            f"Reward function {specification!r}: {name!r} is not a function there; callable names "
            f"are {', '.join(functions) or 'missing'}."
        )
    return function
