"""The documentation is readable as plain files: short lines, narrow tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"\s*(`{3,}|~{3,})")


def lines_outside_code(page: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a page that are not in a block of code."""
    fence = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        found = FENCE.match(line)
        if fence is None and found:
            fence = found[1]
        elif fence is None:
            yield number, line
        elif found and found[1].startswith(fence) and line.strip() == found[1]:
            fence = None


def is_row(line: str) -> bool:
    return line.lstrip().startswith("|")


def test_pages_are_found() -> None:
    """Prevents a search that finds nothing and so passes."""
    assert len(PAGES) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_are_short(page: Path) -> None:
    """Prevents paragraphs that nobody can read or review in a terminal."""
    long = [
        f"{page.name}:{number}: {len(line)} columns"
        for number, line in lines_outside_code(page)
        if len(line) > 100 and not is_row(line)
    ]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_narrow_and_whole(page: Path) -> None:
    """Prevents tables of more than six columns, and rows that a stray bar breaks."""
    widths: list[int] = []
    for number, line in lines_outside_code(page):
        if not is_row(line):
            widths = []
            continue
        cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
        widths.append(len(cells))
        assert len(cells) <= 6, f"{page.name}:{number}: {len(cells)} columns"
        assert len(cells) == widths[0], f"{page.name}:{number}: not as wide as its table"
