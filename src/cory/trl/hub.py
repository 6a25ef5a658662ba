"""Saves an agent of a `cory.trl` trainer as a plain model with a card, and pushes it to the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, ModelCard

from cory.io.files import writing
from cory.training.card_text import model_card
from cory.training.cards import card_facts


def save_agents(trainer: Any, directory: Path) -> None:
    """Write agent 0 into a directory, and the others of a team into `agent_1` … inside it.

    Each is a model, or an adapter, with its tokenizer, as plain transformers or peft loads it.
    """
    core = trainer.core
    for index, agent in enumerate(core.agents):
        target = directory if index == 0 else directory / agent.name
        with core.world.fail_together(), writing(target):
            if core.world.is_main:
                target.mkdir(parents=True, exist_ok=True)
        with agent.as_result(), TemporaryDirectory() as temporary:
            made = Path(temporary) / agent.name
            agent.policy.weights.save(made, core.world.is_main)
            with core.world.fail_together(), writing(target):
                if core.world.is_main:
                    _move(made, target)
                    core.tokenizer.save_pretrained(target)


def _move(made: Path, target: Path) -> None:
    """Copy files to a directory of another file system, each whole or not at all."""
    for path in made.iterdir():
        partial = target / f".{path.name}.partial"
        partial.write_bytes(path.read_bytes())
        partial.replace(target / path.name)


def agent_card(
    trainer: Any, name: str | None, dataset_name: str | None, tags: list[str] | str | None
) -> ModelCard:
    """The card of agent 0, as a checkpoint has it, with the names that a script gives."""
    core = trainer.core
    step = core.events.state.global_step
    args = core.args if name is None else core.args.replace(run_name=name)
    metrics = core.events.last_metrics if core.events.last_evaluated == step else None
    card = ModelCard(model_card("agent_0", step, args, card_facts(core), metrics))
    own = [tags] if isinstance(tags, str) else tags or []
    data: Any = card.data
    data.tags = sorted({*(data.tags or []), trainer.method.lower(), *own})
    data.model_name = name
    if dataset_name is not None:
        data.datasets = dataset_name
    return card


def push(
    trainer: Any, message: str, where: Mapping[str, str | None], card: Mapping[str, Any]
) -> Any:
    """Upload what `save_model` writes, and nothing else of the run.

    Args:
        trainer: whose agents are uploaded.
        message: of the commit.
        where: `token` and `revision`, before those of the arguments.
        card: arguments of `create_model_card`.

    Returns:
        what the Hub's client says of the commit; None in processes that do not write.
    """
    args = trainer.args
    with TemporaryDirectory() as temporary:
        trainer.save_model(temporary)
        if not trainer.core.world.is_main:
            return None
        trainer.create_model_card(**card, directory=temporary)
        api = HfApi(token=where.get("token") or args.hub_token)
        repo = api.create_repo(
            trainer.hub_model_id or Path(args.output_dir).resolve().name,
            private=args.hub_private_repo,
            exist_ok=True,
        )
        return api.upload_folder(
            repo_id=repo.repo_id,
            folder_path=temporary,
            commit_message=message,
            revision=where.get("revision") or args.hub_revision,
        )
