"""What a run wrote for a machine, read for its page: validated, and no more than a page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from cory.io.objects import (
    MAX_STEP,
    complete_lines,
    finite_numbers,
    parse_object,
    read_object,
    whole_number,
)
from cory.report.figures import every_so_many

EVALUATION = b'"eval/'
"""Stands in the lines of evaluations."""
Item = TypeVar("Item")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl that a page shows, in order.

    Of many trainings, and of many evaluations, every second, third … is read, and always the first
    and the last: what lies between is not looked at.

    Returns:
        a dict of numbers each, None where a number is unknown, and its `step`.

    Raises:
        ValueError: a line is no such record; the message names it.
    """
    if not path.exists():
        return []
    trainings, evaluations = [], []
    for number, line in complete_lines(path):
        (evaluations if EVALUATION in line else trainings).append(number)
    wanted = {*_thinned(trainings), *_thinned(evaluations)}
    return [
        _record(line, f"{path}, line {number}")
        for number, line in complete_lines(path)
        if number in wanted
    ]


def _thinned(items: list[Item]) -> list[Item]:
    return [*items[:1], *every_so_many(items)]


def _record(line: bytes, where: str) -> dict[str, Any]:
    found = parse_object(line, where)
    if "step" not in found:
        raise ValueError(f"{where} has no 'step': each record must name its iteration")
    step = whole_number(found.pop("step"), f"{where}: 'step'", MAX_STEP)
    return {"step": step, **finite_numbers(found, where)}


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `cory eval` wrote: `checkpoints`, `settings`, `num_queries`, `num_samples`, `metrics`.

    Raises:
        ValueError: it is something else; the message names the file and the key.
    """
    found = read_object(path)
    needed = ("checkpoints", "settings", "num_queries", "num_samples", "metrics")
    again = "run `cory eval` again, or delete the file"
    if missing := [key for key in needed if key not in found]:
        raise ValueError(f"{path} has no {missing[0]!r}: {again}")
    for key in ("checkpoints", "settings", "metrics"):
        if not isinstance(found[key], dict):
            raise ValueError(f"{path}: {key!r} is {found[key]!r:.100}, not an object: {again}")
    places = found["checkpoints"]
    if not all(isinstance(place, str) for place in places.values()):
        raise ValueError(f"{path}: 'checkpoints' must hold the path of each agent: {again}")
    names = ("task", "dataset_name")
    if wrong := [n for n in names if not isinstance(found["settings"].get(n), str | None)]:
        raise ValueError(f"{path}: the setting {wrong[0]!r} is no text: {again}")
    for key in ("num_queries", "num_samples"):
        whole_number(found[key], f"{path}: {key!r}", MAX_STEP)
    metrics = {
        name: finite_numbers(numbers, f"{path}: metrics of {name!r:.100}")
        for name, numbers in found["metrics"].items()
    }
    return found | {"metrics": metrics}
