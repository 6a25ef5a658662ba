"""samples/: what the team answered, and what the initial model answers to the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cory.algorithm.seeding import derive_generator, preserved_global_generators
from cory.io.files import replacing, writing
from cory.team.rollout import judge
from cory.team.types import Experience, Iteration
from cory.training.setup import Workbench

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

    workbench: Workbench

    def is_due(self, step: int) -> bool:
        """Whether iteration `step`, counted from 0, is one to write down."""
        period = self.workbench.args.log_samples_steps
        return period is not None and (step + 1) % period == 0

    def write(self, iteration: Iteration, rows: Sequence[dict[str, Any]]) -> Path:
        """Write the file of an iteration.

        Args:
            iteration: what the team did.
            rows: of the data set, one per query, as the rollout got them.
        """
        args = self.workbench.args
        path = Path(args.output_dir) / "samples" / f"step-{iteration.step + 1:06d}.parquet"
        answers = [
            answer
            for experience in iteration.experiences
            for answer in _answers(experience, len(iteration.queries))
        ]
        rows = [row for row in rows for _ in range(args.num_generations)]
        answers += self._initial_answers(rows, iteration.step)
        texts = [
            query if isinstance(query, str) else query[-1]["content"] for query in iteration.queries
        ]
        table = [
            {
                "step": iteration.step + 1,
                "index": answer["index"],
                "query": texts[answer["index"]],
                **answer,
            }
            for answer in answers
        ]
        with self.workbench.world.together():
            if self.workbench.world.is_first:
                with writing(path):
                    path.parent.mkdir(exist_ok=True)
                with replacing(path) as partial:
                    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), partial)
        return path

    def _initial_answers(self, rows: Sequence[dict[str, Any]], step: int) -> list[dict[str, Any]]:
        bench, args = self.workbench, self.workbench.args
        response_ids = bench.sampler.generate(
            bench.reference,
            [bench.encoder.encode(row[args.prompt_column], []) for row in rows],
            bench.rollout.response_length(step),
            args.temperature,
            derive_generator(args.seed, INITIAL_MODEL, step, device=bench.reference.device),
        ).token_ids
        completions = bench.encoder.decode(response_ids)
        with preserved_global_generators():
            rewards = judge(
                bench.reward_funcs,
                rows,
                completions,
                response_ids,
                args,
                bench.world,
                bench.failures,
            ).total
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


def _answers(experience: Experience, num_queries: int) -> list[dict[str, Any]]:
    turn = experience.turn
    answers_each = len(turn) // num_queries
    numbers = zip(
        experience.task_reward.tolist(),
        experience.team_reward.tolist(),
        experience.scores.full_kl.sum(1).tolist(),
        strict=True,
    )
    return [
        {
            "index": row // answers_each,
            "agent": f"agent_{turn.agent}",
            "role": turn.role,
            "answer": turn.completions[row],
            "task_reward": task_reward,
            "team_reward": team_reward,
            "kl": kl,
        }
        for row, (task_reward, team_reward, kl) in enumerate(numbers)
    ]
