"""The sentence at the top of a page: who is ahead, by how much, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cory.config import CORYConfig
from cory.report.measures import KL, REWARD, reward_measure
from cory.report.results import MEAN, Results, Setting
from cory.training.samples import INITIAL_MODEL

Record = Mapping[str, Any]


def run_verdict(args: CORYConfig, agents: Sequence[str], records: Sequence[Record]) -> str:
    """What a run has come to on held-out queries, then what it lacks."""
    evaluations = [each for each in records if f"eval/{agents[0]}/{REWARD.key}" in each]
    parts = [_outcome(agents, evaluations)] if evaluations else []
    return " ".join([*parts, *_missing(args, records, evaluations)])


def _outcome(agents: Sequence[str], evaluations: Sequence[Record]) -> str:
    last, first = evaluations[-1], evaluations[0]
    paid = [agent for agent in agents if last.get(f"eval/{agent}/{REWARD.key}") is not None]
    if not paid:
        return "No held-out answer was paid."
    best = max(paid, key=lambda agent: last[f"eval/{agent}/{REWARD.key}"])
    prefix = f"eval/{best}"
    reward, half = last[f"{prefix}/{REWARD.key}"], last.get(f"{prefix}/{REWARD.interval}")
    sentence = f"{best} earns {REWARD.write(reward, half)} per held-out answer"
    before = first.get(f"{prefix}/{REWARD.key}")
    if first["step"] == 0 and last["step"] > 0 and before is not None:
        sentence += f", {_apart(reward - before)} the {INITIAL_MODEL}"
    kl = last.get(f"{prefix}/{KL.key}")
    return sentence + (f", at a KL of {KL.write(kl)} nats." if kl is not None else ".")


def _missing(
    args: CORYConfig, records: Sequence[Record], evaluations: Sequence[Record]
) -> Iterator[str]:
    done = records[-1]["step"]
    if done < args.max_steps:
        yield (
            f"The run has {done} of {args.max_steps} iterations: it goes on, or was interrupted "
            "(`--resume` continues it)."
        )
    if not evaluations:
        yield "Nothing was measured on held-out queries yet: `cory eval` does, or eval_steps."
    elif evaluations[-1]["step"] < done:
        yield f"The last evaluation is of iteration {evaluations[-1]['step']}."
    if 0 < done < FEW_STEPS:
        yield "So few iterations show that a run works, not what it learns."


FEW_STEPS = 10
"""Fewer iterations are a trial."""


def comparison_verdict(results: Results) -> str:
    """Each arm's reward beside the baseline's, and whether the interval of the difference has 0."""
    reward, baseline = reward_measure(results.rewards[0]), results.baseline
    sentences = []
    for which in results.settings:
        row = results.ends.get((which, MEAN)) or results.ends.get((which, "agent_0"))
        found = None if row is None else row.get(f"{reward.key}_difference")
        if row is None or found is None:
            continue
        half = row.get(f"{reward.key}_difference_interval")
        sentences.append(_beside(results, which, baseline, found, half, row.get("pairs")))
    return " ".join(sentences)


def _beside(
    results: Results,
    which: Setting,
    baseline: str,
    difference: float,
    half: float | None,
    pairs: int | None,
) -> str:
    name, seeds = results.name(which), f"{pairs} seed{'s' * (pairs != 1)}"
    if half is None:
        return f"{name} earns {_apart(difference)} {baseline} on {seeds}, which is no evidence yet."
    if abs(difference) <= half:
        return (
            f"{name} and {baseline} cannot be told apart: {REWARD.write(difference, half)} on "
            f"{seeds}."
        )
    return f"{name} earns {_apart(difference)} {baseline} (± {REWARD.write(half)}, {seeds})."


def _apart(difference: float) -> str:
    """A difference of rewards in words.

    >>> _apart(0.25), _apart(-1.5)
    ('0.250 more than', '1.500 less than')
    """
    return f"{REWARD.write(abs(difference))} {'more' if difference >= 0 else 'less'} than"
