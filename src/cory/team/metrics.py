"""What is measured, and the file it is written to. docs/reference/metrics.md explains each key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cory.algorithm.losses import masked_mean
from cory.io.files import flush, is_file, replace_text, writing
from cory.io.objects import MAX_STEP, complete_lines, parse_object, whole_number
from cory.team.copying import copy_rate
from cory.team.types import RolloutRecord


def mean_of(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def paid_mean(rewards: Float[Tensor, " B"]) -> float:
    """Mean of the rewards of the answers that were paid; NaN if none was."""
    return float(rewards[~rewards.isnan()].mean())


def none_for_nan(rewards: Float[Tensor, " B"]) -> list[float | None]:
    """Rewards for a file: None where an answer was declined, since neither JSON nor SQL has NaN."""
    return [None if math.isnan(reward) else reward for reward in rewards.tolist()]


def record_metrics(record: RolloutRecord) -> dict[str, float]:
    """What one agent's answers of one iteration earned and cost."""
    scores, mask, generation = record.scores, record.batch.response_mask, record.generation
    lengths = mask.sum(1).float()
    paid = record.task_reward[record.is_paid]
    return {
        "task_reward": paid_mean(record.task_reward),
        "task_reward_std": float(paid.std(correction=0)) if len(paid) else math.nan,
        "team_reward": paid_mean(record.team_reward),
        "declined_answers": float(len(record.task_reward) - len(paid)),
        "masked_answers": 0.0 if record.is_masked is None else float(record.is_masked.sum()),
        "kl": float(scores.full_kl.sum(1).mean()),
        "kl_per_token": float(masked_mean(scores.full_kl, mask)),
        "kl_sampled": float((scores.logprobs - scores.ref_logprobs).sum(1).mean()),
        "entropy": float(masked_mean(scores.entropy, mask)),
        "completion_length": float(lengths.mean()),
        "ended_share": mean_of(generation.has_ended),
        **{f"reward/{name}": value for name, value in record.reward_parts.items()},
        **{f"logged/{name}": value for name, value in record.logged.items()},
        **diversity(generation.response_ids),
    }


def transfer_metrics(record: RolloutRecord, earlier: Sequence[RolloutRecord]) -> dict[str, float]:
    """What a speaker took from the answers given before its own, and how much better it did.

    Measured without knowledge transfer as well, where it shows what chance does. Nothing for the
    first speaker.
    """
    if not earlier:
        return {}
    answers = record.generation.completions
    # Row i saw the rows i of those who spoke before.
    seen = zip(*(other.generation.completions for other in earlier), strict=True)
    return {
        "references": float(record.generation.num_references),
        "copy_rate": mean_of(map(copy_rate, answers, seen)),
        "lift": paid_mean(record.task_reward) - paid_mean(earlier[0].task_reward),
    }


def diversity(response_ids: Sequence[Sequence[int]]) -> dict[str, float]:
    """How varied answers are: share of distinct token 1- and 2-grams, and of distinct answers.

    Li et al. 2016 (arXiv 1510.03055) for distinct-n: distinct n-grams over all n-grams, here of
    token ids; 0 if no answer is long enough. All three fall when a policy collapses.
    """
    return {
        "distinct_1": _distinct_share(response_ids, 1),
        "distinct_2": _distinct_share(response_ids, 2),
        "unique_share": len({tuple(ids) for ids in response_ids}) / len(response_ids),
    }


def _distinct_share(response_ids: Sequence[Sequence[int]], size: int) -> float:
    ngrams = [
        tuple(ids[start : start + size])
        for ids in response_ids
        for start in range(len(ids) - size + 1)
    ]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def confidence_interval(values: Float[Tensor, " N"]) -> float:
    """Half the width of the 95% interval of a mean, 1.96 · std / √N; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    return float(1.96 * values.double().std() / math.sqrt(len(values)))


def for_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record for a file: None where a number is not finite, since JSON has none such."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in record.items()
    }


class MetricsFile:
    """metrics.jsonl: one JSON object per line, each with its `step`.

    Args:
        path: of the file.
        first_step: records of later steps are dropped: they belong to a run that was cut off after
            its last checkpoint.
        count: of the records to keep at most; None: all up to `first_step`.

    Raises:
        ValueError: a line that is kept is damaged.
    """

    def __init__(self, path: Path, first_step: int, count: int | None = None) -> None:
        self.path = path
        kept = _records_until(path, first_step)[:count]
        self.count = len(kept)
        """Of the records in the file."""
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, "".join(json.dumps(record) + "\n" for record in kept))

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; NaN is written as null."""
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps(for_json(record)) + "\n")
        self.count += 1

    def flush(self) -> None:
        """Bring what was written to the disk."""
        with writing(self.path):
            flush(self.path)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All records of a metrics file, but a last line cut short; none if there is no file.

    Raises:
        ValueError: a line is damaged; the message names file and line.
    """
    return [_record(line, number, path) for number, line in _lines(path)]


def _records_until(path: Path, last_step: int) -> list[dict[str, Any]]:
    """The records of steps up to `last_step`; what is damaged behind them is not looked at."""
    records: list[dict[str, Any]] = []
    try:
        for number, line in _lines(path) if last_step >= 0 else ():
            records.append(_record(line, number, path))
    except ValueError:
        if not records or records[-1]["step"] < last_step:
            raise
    return [record for record in records if record["step"] <= last_step]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that were written to their end, by their number."""
    return complete_lines(path) if is_file(path) else iter(())


def _record(line: bytes, number: int, path: Path) -> dict[str, Any]:
    where = f"{path}, line {number},"
    try:
        record = parse_object(line, where)
        whole_number(record.get("step"), f"{where} 'step'", MAX_STEP)
    except ValueError as error:
        raise ValueError(f"{error}; restore the file from a backup, or remove the line") from error
    return record


def explained_variance(values: Float[Tensor, " N"], returns: Float[Tensor, " N"]) -> float:
    """1 − Var(returns − values) / Var(returns): 1 is a perfect value function, 0 a constant one."""
    variance = returns.var(correction=0)
    return float(1 - (returns - values).var(correction=0) / variance.clamp(min=1e-12))


_COMBINE = {"ratio_error": torch.maximum}


def combined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Statistics of a mini-batch from those of its parts: their sum, or their maximum."""
    return {
        key: reduce(_COMBINE.get(key, torch.add), [part[key] for part in parts]) for key in parts[0]
    }


def averages(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the optimizer steps that measured a key."""
    keys = {key: None for entry in history for key in entry if key != "ratio_error"}
    return {key: mean_of(entry[key] for entry in history if key in entry) for key in keys}
