"""Files of samples, read for a page: of the types that cory writes, cut to what a page shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from cory.io.files import is_file

Row = Mapping[str, Any]
WITHOUT_IT = "If the run was cut off while writing it, delete it; the run can do without"
COLUMNS = pyarrow.schema(
    [
        *((name, pyarrow.int64()) for name in ("step", "index")),
        *((name, pyarrow.large_string()) for name in ("query", "agent", "role", "answer")),
        *((name, pyarrow.float64()) for name in ("task_reward", "kl")),
    ]
)
"""What a page shows of a file; it may have more."""
TEXTS = frozenset({"query", "agent", "role", "answer"})
MAY_BE_UNKNOWN = frozenset({"task_reward", "kl"})
MAX_ROWS = 1_000_000
MAX_CHARACTERS = 20_000
"""Of one text on a page. Of a longer one this much is shown, and how much more there is."""
BATCH = 256
"""Rows at a time, so that long texts do not all stand in memory."""


def read_samples(path: Path, limit: int) -> Iterator[Row]:
    """The rows of a file of samples, in order; texts of queries from `limit` on are left out.

    Raises:
        ValueError: the file cannot be read, or does not hold samples; the message names it.
    """
    try:
        is_file(path)
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise ValueError(f"it has {file.metadata.num_rows:,} rows, over {MAX_ROWS:,}")
            if missing := [name for name in COLUMNS.names if name not in file.schema_arrow.names]:
                raise ValueError(f"it has no column {missing[0]!r}")
            for batch in file.iter_batches(BATCH, columns=COLUMNS.names):
                yield from _rows(pyarrow.Table.from_batches([batch]), limit)
    except (pyarrow.ArrowException, LookupError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as samples: {error}. {WITHOUT_IT}") from error


def _rows(table: pyarrow.Table, limit: int) -> Iterator[Row]:
    table = table.select(COLUMNS.names).cast(COLUMNS)
    for name in COLUMNS.names:
        if name not in MAY_BE_UNKNOWN and table[name].null_count:
            raise ValueError(f"column {name!r} has a row without a value")
    wanted = table.filter(pyarrow.compute.field("index") < limit)
    for index in table.filter(pyarrow.compute.field("index") >= limit)["index"].to_pylist():
        yield {"index": index}
    for name in TEXTS:
        place = wanted.column_names.index(name)
        wanted = wanted.set_column(place, name, _cut(wanted[name]))
    for row in wanted.to_pylist():
        known = {name: row[name] for name in row if name not in MAY_BE_UNKNOWN}
        yield known | {name: _finite(row[name]) for name in MAY_BE_UNKNOWN}


def _cut(texts: pyarrow.ChunkedArray) -> pyarrow.Array:
    """Texts as a page shows them, cut before they become Python's."""
    call, cut = pyarrow.compute.call_function, pyarrow.compute.SliceOptions(0, MAX_CHARACTERS)
    starts = call("utf8_slice_codeunits", [texts], cut).to_pylist()
    lengths = call("utf8_length", [texts]).to_pylist()
    shown = [
        start if len(start) == length else f"{start} … ({length - len(start):,} more characters)"
        for start, length in zip(starts, lengths, strict=True)
    ]
    return pyarrow.array(shown, pyarrow.large_string())


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
