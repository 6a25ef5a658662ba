"""What `cory train` says at its end: numbers beside the initial model's, answers, what is next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from cory.algorithm.seeding import preserved_global_generators
from cory.cli.tables import evaluation_table, print_table
from cory.io.terminal import printable, write
from cory.team.metrics import read_metrics
from cory.training.data import held_out_queries
from cory.training.samples import INITIAL_MODEL
from cory.training.trainer import CORYTrainer

SHOWN_ANSWERS = 2
SHOWN_CHARACTERS = 200


def initial_metrics(trainer: CORYTrainer) -> dict[str, float]:
    """What the initial model does on held-out queries, before anything is trained or loaded.

    {} if nothing is held out, or if the training measures it itself (`eval_steps`).
    """
    args, components = trainer.args, trainer.components
    if components.eval_dataset is None or args.eval_steps is not None:
        return {}
    queries = held_out_queries(components.eval_dataset, args.num_eval_queries)
    with preserved_global_generators():
        first = components.evaluator.evaluate(trainer.policies[0], queries, args.num_eval_samples)
    return first.metrics


def print_outcome(
    trainer: CORYTrainer, initial: Mapping[str, float], metrics: Mapping[str, float]
) -> None:
    """Print a finished training.

    Args:
        trainer: that has trained.
        initial: metrics of the initial model; {}: as the run logged them, if it did.
        metrics: the last ones, by `agent_0/task_reward` and the like.
    """
    names = [*(agent.name for agent in trainer.agents), "merged"]
    alone = {INITIAL_MODEL: initial or _logged_before(trainer)}
    alone |= {name: _of(name, metrics) for name in names}
    measured = {name: numbers for name, numbers in alone.items() if "task_reward" in numbers}
    if trainer.alone:
        title = f"each agent alone, held out · {trainer.args.output_dir}"
        print_table(evaluation_table(title, measured))
        _print_answers(trainer)
    run = shlex.quote(trainer.args.output_dir)
    write(f"\nnext: cory report {run}   cory eval {run}   cory generate {run} --prompt TEXT")


def _print_answers(trainer: CORYTrainer) -> None:
    """The first agent's first answer to each of the first held-out queries."""
    name, evaluation = next(iter(trainer.alone.items()))
    step = trainer.args.num_eval_samples
    for place in range(0, len(evaluation.rows), step)[:SHOWN_ANSWERS]:
        query = evaluation.rows[place][trainer.args.prompt_column]
        reward = evaluation.task_rewards[place]
        paid = "declined" if reward is None else f"reward {reward:z.3f}"
        answer = _short(evaluation.completions[place])
        write(f"\n{_short(query)}\n  {name}, {paid}: {answer}")


def _logged_before(trainer: CORYTrainer) -> dict[str, float]:
    first = next(iter(read_metrics(trainer.records.metrics_path)), {})
    return _of("eval/agent_0", first) if first.get("step") == 0 else {}


def _of(owner: str, metrics: Mapping[str, float]) -> dict[str, float]:
    prefix = f"{owner}/"
    return {
        key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)
    }


def _short(query: Any) -> str:
    """A text, or the last message of a chat, on one line."""
    text = query if isinstance(query, str) else str(query[-1]["content"])
    line = printable(" ".join(text.split()))
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]} …"
