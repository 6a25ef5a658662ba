"""Sample log: what the team answered, and what the initial model answers to the same queries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cory.algorithm.seeding import derive_generator, preserved_global_generators
from cory.io.files import replacing, writing
from cory.team.messages import question_text
from cory.team.metrics import none_for_nan
from cory.team.types import Iteration, RolloutRecord
from cory.training.setup import RunComponents

INITIAL_MODEL = "initial model"
"""Stands as agent and as role in the rows of the initial model."""


def write_samples(run: RunComponents, iteration: Iteration) -> list[dict[str, Any]]:
    """Write samples/step-N.parquet, and return its rows.

    A file has a row for each query and speaker: every agent in its role, as it answered in
    training, and the frozen initial model, alone on the plain query. The initial model answers for
    the record only: it has random numbers of its own and leaves the global ones as they were, so a
    training is the same with and without such files. Columns that reward functions logged come
    last; a reward is null where every function declined the answer.
    """
    step = iteration.step + 1
    path = Path(run.args.output_dir) / "samples" / f"step-{step:06d}.parquet"
    texts = [question_text(row[run.args.prompt_column]) for row in iteration.rows]
    answers = (*map(_answers, iteration.records), _initial_answers(run, iteration))
    table = with_logged_columns(
        [
            {"step": step, "index": index, "query": texts[index], **answer}
            for speaker in answers
            for index, answer in enumerate(speaker)
        ]
    )
    with run.world.fail_together():
        if run.world.is_main:
            with writing(path):
                path.parent.mkdir(exist_ok=True)
            with replacing(path) as partial:
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), partial)
    return table


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
        scores = run.rewards.score(iteration.rows, completions, response_ids)
    return _rows(
        {"agent": INITIAL_MODEL, "role": INITIAL_MODEL, "team_reward": None, "kl": 0.0},
        answer=completions,
        task_reward=none_for_nan(scores.total),
        logged=_by_answer(scores.columns, len(completions)),
    )


def _answers(record: RolloutRecord) -> Iterator[dict[str, Any]]:
    generation = record.generation
    return _rows(
        {"agent": f"agent_{generation.agent}", "role": generation.role},
        answer=generation.completions,
        task_reward=none_for_nan(record.task_reward),
        team_reward=none_for_nan(record.team_reward),
        kl=record.scores.full_kl.sum(1).tolist(),
        logged=_by_answer(record.logged_columns, len(generation)),
    )


def _rows(speaker: dict[str, Any], **columns: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """One per answer, in the order of the queries."""
    for values in zip(*columns.values(), strict=True):
        yield speaker | dict(zip(columns, values, strict=True))


def _by_answer(columns: Mapping[str, Sequence[Any]], count: int) -> list[dict[str, Any]]:
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def with_logged_columns(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with what was `logged` as further columns, the same in all rows.

    A column whose name is taken gets `_2` behind it. Values of several kinds, or of others than
    numbers, texts and booleans, become JSON texts: a column of a table has one kind.
    """
    taken = {name: None for row in table for name in row}
    rows = [{key: value for key, value in row.items() if key != "logged"} for row in table]
    for name in {name: None for row in table for name in row["logged"]}:
        column = [row["logged"].get(name) for row in table]
        kinds = {type(value) for value in column if value is not None}
        if not any(kinds <= plain for plain in ({str}, {bool}, {int, float})):
            column = [None if value is None else json.dumps(value) for value in column]
        for row, value in zip(rows, column, strict=True):
            row[f"{name}_2" if name in taken else name] = value
    return rows
