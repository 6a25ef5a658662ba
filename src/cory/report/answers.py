"""What the page's browser of answers holds: queries, everybody's answers, and what was copied."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from cory.team.copying import copied_spans, copy_rate
from cory.training.samples import INITIAL_MODEL

MAX_QUERIES = 4000
"""Queries on one page; a browser searches these in no time."""


def browse(runs: Mapping[str, Path], max_bytes: int) -> dict[str, Any]:
    """The logged answers of some runs, as many as fit.

    Where they do not all fit, the same number is taken from each logged iteration of each run, from
    its first queries on; these are in random order.

    Args:
        runs: run directories by the name to show.
        max_bytes: of the entries as JSON.

    Returns:
        `runs`, names; `entries`, a dict per query; `total`, the queries there were.

    Raises:
        ValueError: a file of samples cannot be read.
    """
    files = [
        (number, path)
        for number, directory in enumerate(runs.values())
        for path in sorted((directory / "samples").glob("step-*.parquet"))
    ]
    limit = max(MAX_QUERIES // max(len(files), 1), 1)
    total = 0
    logged: list[list[dict[str, Any]]] = []
    for number, path in files:
        count, by_query = _first_queries(path, limit)
        total += count
        logged.append([_entry(number, rows) for rows in by_query])
    entries = fitting(logged, max_bytes)
    return {"runs": list(runs), "entries": entries, "total": total}


def fitting(groups: Sequence[Sequence[Any]], max_bytes: int) -> list[Any]:
    """The first k of each group, k as large as the bytes allow.

    Where not even one of each fits, every second group, or fourth, and so on, is left.
    """
    taken = size = 0
    for layer in zip_longest(*groups):
        texts = [json.dumps(entry, ensure_ascii=False) for entry in layer if entry is not None]
        size += sum(len(text.encode(errors="replace")) for text in texts)
        if size > max_bytes:
            break
        taken += 1
    if not taken and len(groups) > 1:
        return fitting(groups[::2], max_bytes)
    return [entry for group in groups for entry in group[:taken]]


def _first_queries(path: Path, limit: int) -> tuple[int, list[list[dict[str, Any]]]]:
    """How many queries there are, and the rows of each of the first."""
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ValueError(
            f"{path} cannot be read as parquet: {error}. If the run was cut off while writing it, "
            "delete it; the run can do without"
        ) from error
    by_query: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in table.filter(pyarrow.compute.field("index") < limit).to_pylist():
        by_query[row["index"]].append(row)
    return len(table["index"].unique()), list(by_query.values())


def _entry(run: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One query; `rows` are its answers in the order of speaking, the initial model's among them.

    `lift` is the last speaker's reward less the pioneer's; None where either was declined.
    """
    initial = [row for row in rows if row["role"] == INITIAL_MODEL]
    turns = [row for row in rows if row["role"] != INITIAL_MODEL]
    return {
        "run": run,
        "step": rows[0]["step"],
        "index": rows[0]["index"],
        "query": rows[0]["query"],
        "initial": [
            {"text": row["answer"], "reward": _short(row["task_reward"])} for row in initial
        ],
        "turns": [
            _turn(row, [earlier["answer"] for earlier in turns[:place]])
            for place, row in enumerate(turns)
        ],
        "lift": _short(_difference(turns[-1]["task_reward"], turns[0]["task_reward"])),
    }


def _turn(row: Mapping[str, Any], earlier: Sequence[str]) -> dict[str, Any]:
    return {
        "role": row["role"],
        "agent": row["agent"],
        "pieces": pieces(row["answer"], copied_spans(row["answer"], earlier)),
        "reward": _short(row["task_reward"]),
        "kl": _short(row["kl"]),
        "copied": _short(copy_rate(row["answer"], earlier)) if earlier else None,
    }


def pieces(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """A text cut at the ends of its spans: own words, copied words, own words, and so on.

    JavaScript counts characters otherwise than Python, so that positions would not do.

    >>> pieces("so it is a film", [(3, 10)])
    ['so ', 'it is a', ' film']
    """
    cuts = [0, *(cut for span in spans for cut in span), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


def _difference(reward: float | None, other: float | None) -> float | None:
    return None if reward is None or other is None else reward - other


def _short(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
