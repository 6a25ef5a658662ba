"""Sample log: what the team answered, and what the initial model answers to the same queries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cory.algorithm.seeding import derive_generator, preserved_global_generators
from cory.io.files import replacing, writing
from cory.team.types import Iteration, RolloutRecord
from cory.training.setup import RunComponents

INITIAL_MODEL = "initial model"
"""Stands as agent and as role in the rows of the initial model."""


@dataclass(frozen=True)
class SampleLog:
    """Writes samples/step-N.parquet every `log_samples_steps` iterations.

    A file has a row for each query and speaker: every agent in its role, as it answered in
    training, and the frozen initial model, alone on the plain query. The initial model answers for
    the record only: it has random numbers of its own and leaves the global ones as they were, so a
    training is the same with and without such files.
    """

    components: RunComponents

    def is_due(self, step: int) -> bool:
        """Whether iteration `step`, counted from 0, is one to write down."""
        period = self.components.args.log_samples_steps
        return period is not None and (step + 1) % period == 0

    def write(self, iteration: Iteration) -> Path:
        """Write the file of an iteration."""
        args = self.components.args
        path = Path(args.output_dir) / "samples" / f"step-{iteration.step + 1:06d}.parquet"
        answers = [answer for record in iteration.records for answer in _answers(record)]
        answers += self._initial_answers(iteration)
        queries = [row[args.prompt_column] for row in iteration.rows]
        texts = [query if isinstance(query, str) else query[-1]["content"] for query in queries]
        table = [
            {
                "step": iteration.step + 1,
                "index": answer["index"],
                "query": texts[answer["index"]],
                **answer,
            }
            for answer in answers
        ]
        with self.components.world.fail_together():
            if self.components.world.is_main:
                with writing(path):
                    path.parent.mkdir(exist_ok=True)
                with replacing(path) as partial:
                    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), partial)
        return path

    def _initial_answers(self, iteration: Iteration) -> list[dict[str, Any]]:
        run, args, step = self.components, self.components.args, iteration.step
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
        return [
            {
                "index": index,
                "agent": INITIAL_MODEL,
                "role": INITIAL_MODEL,
                "answer": completion,
                "task_reward": reward,
                "team_reward": None,
                "kl": 0.0,
            }
            for index, (completion, reward) in enumerate(
                zip(completions, rewards.tolist(), strict=True)
            )
        ]


def _answers(record: RolloutRecord) -> list[dict[str, Any]]:
    generation = record.generation
    numbers = zip(
        generation.completions,
        record.task_reward.tolist(),
        record.team_reward.tolist(),
        record.scores.full_kl.sum(1).tolist(),
        strict=True,
    )
    return [
        {
            "index": index,
            "agent": f"agent_{generation.agent}",
            "role": generation.role,
            "answer": completion,
            "task_reward": task_reward,
            "team_reward": team_reward,
            "kl": kl,
        }
        for index, (completion, task_reward, team_reward, kl) in enumerate(numbers)
    ]
