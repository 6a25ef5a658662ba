"""What the page's browser of answers holds: queries, everybody's answers, and what was copied."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from cory.report.figures import every_so_many
from cory.report.samples import WITHOUT_IT, Row, read_samples
from cory.team.copying import copied_spans, copy_rate
from cory.training.samples import INITIAL_MODEL

MAX_QUERIES = 4000
"""Queries on one page; a browser searches these in no time."""
MAX_FILES = 400
"""Files of samples that one page reads; of more, every second, third … is."""


def browse(runs: Mapping[str, Path], max_bytes: int) -> dict[str, Any]:
    """The logged answers of some runs, as many as fit.

    Where they do not all fit, the same number is taken from each logged iteration of each run, from
    its first queries on; these are in random order.

    Args:
        runs: run directories by the name to show.
        max_bytes: of the entries as JSON.

    Returns:
        `runs`, names; `entries`, a dict per query; `total`, the queries in the files that were
        read; `skipped`, the files that were not.

    Raises:
        ValueError: a file of samples cannot be read.
    """
    there = [
        (number, path)
        for number, directory in enumerate(runs.values())
        for path in sorted((directory / "samples").glob("step-*.parquet"))
    ]
    files = every_so_many(there, MAX_FILES)
    limit = max(MAX_QUERIES // max(len(files), 1), 1)
    total = 0
    logged: list[list[dict[str, Any]]] = []
    for number, path in files:
        count, by_query = _first_queries(path, limit)
        total += count
        logged.append([_entry(number, rows) for rows in by_query])
    entries = fitting(logged, max_bytes)
    skipped = len(there) - len(files)
    return {"runs": list(runs), "entries": entries, "total": total, "skipped": skipped}


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


def _first_queries(path: Path, limit: int) -> tuple[int, list[list[Row]]]:
    """How many queries there are, and the rows of each of the first."""
    queries: set[int] = set()
    by_query: dict[int, list[Row]] = defaultdict(list)
    for row in read_samples(path, limit):
        queries.add(row["index"])
        if row["index"] < limit:
            by_query[row["index"]].append(row)
    if silent := [index for index, rows in by_query.items() if not _turns(rows)]:
        raise ValueError(f"{path} has no answer of an agent to query {silent[0]}. {WITHOUT_IT}")
    return len(queries), list(by_query.values())


def _turns(rows: Sequence[Row]) -> list[Row]:
    """The agents' answers, in the order of speaking."""
    return [row for row in rows if row["role"] != INITIAL_MODEL]


def _entry(run: int, rows: Sequence[Row]) -> dict[str, Any]:
    """One query; `rows` are its answers in the order of speaking, the initial model's among them.

    `lift` is the last speaker's reward less the pioneer's; None where either was declined.
    """
    initial = [row for row in rows if row["role"] == INITIAL_MODEL]
    turns = _turns(rows)
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


def _turn(row: Row, earlier: Sequence[str]) -> dict[str, Any]:
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
