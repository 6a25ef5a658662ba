"""Model cards: the README.md of every agent's folder, at a checkpoint and after an evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cory.config import CORYConfig
from cory.io.checksums import CARD, SUMS
from cory.io.files import replace_text
from cory.training.card_text import CardFacts, model_card


def card_facts(trainer: Any) -> CardFacts:
    """The facts of a `CORYTrainer`."""
    parts, args = trainer.components, trainer.args
    model = trainer.policies[0].weights.model
    rewards = parts.rewards
    return CardFacts(
        base=args.model_name_or_path or getattr(model.config, "_name_or_path", None) or None,
        data=_data(args, parts.train_dataset, has_rows=trainer.has_own_rows),
        rewards=dict(zip(rewards.names, rewards.weights, strict=True)),
        is_chat=parts.is_chat,
        is_adapter=hasattr(trainer.policies[0].weights, "peft_model"),
    )


def _data(args: CORYConfig, rows: Any, has_rows: bool) -> str:
    size = f", {len(rows):,} queries" if hasattr(rows, "__len__") else ""
    if has_rows:
        return f"rows that were passed to the trainer as an object{size}"
    if args.dataset_name is not None:
        part = "" if args.dataset_config is None else f" ({args.dataset_config})"
        return f"`{args.dataset_name}`{part}, split `{args.dataset_train_split}`{size}"
    return f"the built-in task `{args.task}`{size}"


def write_cards(
    checkpoint: Path,
    agents: Sequence[str],
    args: CORYConfig,
    facts: CardFacts,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Write README.md into every agent's folder of a checkpoint.

    A card that has a checksum, as in earlier versions, stays as it is.

    Args:
        checkpoint: `step-N`, or the directory that becomes it.
        agents: their names.
        args: settings of the run.
        facts: of the run.
        metrics: held-out results at this step, as `CORYTrainer.evaluate` returns them; None: not
            measured at this step.
    """
    sums = checkpoint / SUMS
    summed = sums.read_text(errors="replace") if sums.is_file() else ""
    for agent in agents:
        if f"  {agent}/{CARD}\n" not in summed:
            step = int(re.findall(r"\d+", checkpoint.name)[0])
            text = model_card(agent, step, args, facts, metrics)
            replace_text(checkpoint / agent / CARD, text)
