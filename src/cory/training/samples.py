"""Sample log: what the team answered, and what the initial model answers to the same queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cory.algorithm.seeding import derive_generator, preserved_global_generators
from cory.io.files import replacing, writing
from cory.team.chats import question_text
from cory.team.types import Iteration, RolloutRecord
from cory.training.setup import RunComponents

INITIAL_MODEL = "initial model"
"""Stands as agent and as role in the rows of the initial model."""


def write_samples(run: RunComponents, iteration: Iteration) -> None:
    """Write samples/step-N.parquet.

    A file has a row for each query and speaker: every agent in its role, as it answered in
    training, and the frozen initial model, alone on the plain query. The initial model answers for
    the record only: it has random numbers of its own and leaves the global ones as they were, so a
    training is the same with and without such files.
    """
    step = iteration.step + 1
    path = Path(run.args.output_dir) / "samples" / f"step-{step:06d}.parquet"
    texts = [question_text(row[run.args.prompt_column]) for row in iteration.rows]
    table = [
        {"step": step, "index": index, "query": texts[index], **answer}
        for answers in (*map(_answers, iteration.records), _initial_answers(run, iteration))
        for index, answer in enumerate(answers)
    ]
    with run.world.fail_together():
        if run.world.is_main:
            with writing(path):
                path.parent.mkdir(exist_ok=True)
            with replacing(path) as partial:
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), partial)


def _initial_answers(run: RunComponents, iteration: Iteration) -> Iterator[dict[str, Any]]:
    args, step = run.args, iteration.step
    response_ids = run.sampler.generate(
        run.reference,
        [run.encoder.encode(row[args.prompt_column], []) for row in iteration.rows],
        run.rollout.response_length(step),
        args.temperature,
        derive_generator(args.seed, INITIAL_MODEL, step, device=run.reference.device),
    ).token_ids
    completions = run.encoder.decode(response_ids)
    with preserved_global_generators():
        rewards = run.rewards.score(iteration.rows, completions, response_ids).total
    return _rows(
        {"agent": INITIAL_MODEL, "role": INITIAL_MODEL, "team_reward": None, "kl": 0.0},
        answer=completions,
        task_reward=rewards.tolist(),
    )


def _answers(record: RolloutRecord) -> Iterator[dict[str, Any]]:
    generation = record.generation
    return _rows(
        {"agent": f"agent_{generation.agent}", "role": generation.role},
        answer=generation.completions,
        task_reward=record.task_reward.tolist(),
        team_reward=record.team_reward.tolist(),
        kl=record.scores.full_kl.sum(1).tolist(),
    )


def _rows(speaker: dict[str, Any], **columns: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """One per answer, in the order of the queries."""
    for values in zip(*columns.values(), strict=True):
        yield speaker | dict(zip(columns, values, strict=True))
