"""What is an earlier answer in view worth to a trained team, beyond a second try?

    python -m experiments.pocket.reference_value RUN [RUN …] [--num_queries 1024]

On held-out queries with a reward of 0 or 1: agent 0 answers the plain query; agent 1 answers it
with that answer in view, and once more without. Where agent 0 was wrong, an observer is worth its
samples only if it is right more often than the same agent without a reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from cory.algorithm.seeding import derive_generator
from cory.models.policy import Policy
from cory.team.evaluation import Evaluator
from cory.training.data import held_out_queries
from cory.training.records import load_config
from cory.training.runs import build, open_run, take_weights

COLUMNS = ("agent 0", "observer", "second try", "observer, it wrong", "second try, it wrong")
COLUMNS += ("observer, it right", "second try, it right")


def answer(
    evaluator: Evaluator,
    policy: Policy,
    rows: Sequence[dict],
    references: Sequence[list[list[int]]],
    name: str,
) -> tuple[list[list[int]], Tensor]:
    """Token ids of one answer per query, and their rewards."""
    args = evaluator.args
    prompts = [
        evaluator.encoder.encode(row[args.prompt_column], seen)
        for row, seen in zip(rows, references, strict=True)
    ]
    generator = derive_generator(args.seed, "reference value", name)
    answers = evaluator.sampler.generate(
        policy, prompts, args.max_completion_length, args.temperature, generator
    )
    texts = evaluator.encoder.decode(answers.token_ids)
    return answers.token_ids, evaluator.rewards.score(rows, texts, answers.token_ids).total


def measure(run: Path, num_queries: int, *, is_trained: bool) -> list[float]:
    """The columns for the agents of a run, or for the initial model."""
    subject = open_run(run, load_config(run).replace(num_eval_queries=num_queries))
    components = build(subject)
    if is_trained:
        take_weights(components.policies, subject)
    assert components.eval_dataset is not None, "tasks hold queries out"
    rows = held_out_queries(components.eval_dataset, num_queries)
    evaluator, (first, second) = components.evaluator, components.policies
    nothing: list[list[list[int]]] = [[] for _ in rows]
    ids, rewards = answer(evaluator, first, rows, nothing, "first")
    _, observed = answer(evaluator, second, rows, [[seen] for seen in ids], "observer")
    _, again = answer(evaluator, second, rows, nothing, "second")
    wrong, right = rewards == 0, rewards == 1
    columns = [rewards, observed, again, observed[wrong], again[wrong]]
    return [float(column.mean()) for column in (*columns, observed[right], again[right])]


def main() -> None:
    """Parse the command line and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--num_queries", type=int, default=1024)
    options = parser.parse_args()
    print("| run |", " | ".join(COLUMNS), "|")
    print("|---" * (len(COLUMNS) + 1) + "|")
    cases = [("initial model", options.runs[0], False)]
    cases += [(f"{run.parent.name}/{run.name}", run, True) for run in options.runs]
    for name, run, is_trained in cases:
        numbers = measure(run, options.num_queries, is_trained=is_trained)
        print(f"| {name} |", " | ".join(f"{number:.3f}" for number in numbers), "|", flush=True)


if __name__ == "__main__":
    main()
