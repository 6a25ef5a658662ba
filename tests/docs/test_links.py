"""Every relative link in the Markdown files leads to a file and a heading that exist."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.test_prose import lines_outside_code

ROOT = Path(__file__).resolve().parents[2]
LISTED = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.split("\0")
PAGES = sorted(ROOT / name for name in LISTED if name and (ROOT / name).exists())
LINK = re.compile(r"\]\(<?([^)>\s]+)>?\)")
CODE = re.compile(r"`[^`]*`")
HEADING = re.compile(r"#{1,6} +(.+?)(?: +#+)?$")


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page, as git hosts make them; repeated ones are numbered.

    >>> sorted(anchors(ROOT / "docs" / "reference" / "metrics.md"))[:2]
    ['distance-from-the-initial-model', 'metrics']
    """
    names: set[str] = set()
    seen: Counter[str] = Counter()
    for _, line in lines_outside_code(page):
        if heading := HEADING.match(line):
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            name = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
            names.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return names


def links(page: Path) -> list[str]:
    """Targets of a page's links that stay in the project."""
    targets = [
        target
        for _, line in lines_outside_code(page)
        for target in LINK.findall(CODE.sub("code", line))
    ]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def test_pages_and_links_are_found() -> None:
    """Prevents a search that finds nothing and so passes."""
    assert ROOT / "README.md" in PAGES
    assert len(links(ROOT / "docs" / "index.md")) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Prevents links to pages that moved and to headings that were renamed."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            broken.append(link)
    assert not broken
