"""Weights are read from safetensors only: a pickle can hide a program that runs when it is read."""

from __future__ import annotations

from pathlib import Path

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def refuse_pickled_weights(directory: str | Path, auto_class: str) -> None:
    """Refuse a model directory whose weights lie there as pickles only, and say how to convert it.

    A name on the Hub is no directory; there `use_safetensors=True` asks for the same.

    Args:
        directory: of a model that transformers loads.
        auto_class: of transformers, which loads such a model.

    Raises:
        ValueError: there are pickles and no safetensors.
    """
    directory = Path(directory)
    pickles = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
    if pickles and not any(directory.glob("model*.safetensors")):
        raise ValueError(
            f"{directory} holds its weights as a pickle, {pickles[0]}, which can hide a program, "
            "so it is not read. Convert it once, which runs nothing: python -c 'import sys; from "
            f"transformers import {auto_class} as M; M.from_pretrained(sys.argv[1], "
            f"use_safetensors=False).save_pretrained(sys.argv[1])' {str(directory)!r}"
        )


def refuse_pickled_adapter(directory: str | Path) -> None:
    """The same of a directory that holds an adapter of peft.

    Raises:
        ValueError: there is a pickle and no safetensors.
    """
    pickle = Path(directory) / "adapter_model.bin"
    if pickle.is_file() and not pickle.with_suffix(".safetensors").is_file():
        raise ValueError(
            f"{directory} holds its adapter as a pickle, {pickle.name}, which can hide a program, "
            "so it is not read. Convert it once, which runs nothing: python -c 'import sys, torch; "
            "from safetensors.torch import save_file; save_file(torch.load(sys.argv[1] + "
            '"/adapter_model.bin", weights_only=True), sys.argv[1] + "/adapter_model.safetensors")'
            f"' {str(directory)!r}"
        )
