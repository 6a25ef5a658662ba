"""docs/log: each entry has the same parts, says what it rests on, and stands in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LOG = Path(__file__).resolve().parents[2] / "docs" / "log"
INDEX = (LOG / "index.md").read_text()
ENTRIES = sorted(path for path in LOG.iterdir() if path.name != "index.md")
NAME = re.compile(r"\d{4}-\d{2}-\d{2}-[a-z0-9-]+\.md")
ROW = re.compile(
    r"^\| (\d{4}-\d{2}-\d{2}) \| \[(.+?)\]\((\S+?)\) \| (.+?) \| (.+?) \|$", re.MULTILINE
)
PARTS = ["Question", "Prediction", "Set-up", "Outcome", "Decision"]
MADE_FOR_A_QUESTION = re.compile(
    r"arithmetic-(seldom|misled|convinced|rare|rarest|leaning|two-habits|sparse)|pocket/sparse\.yaml"
)


def part(entry: Path, heading: str) -> str:
    """The text of an entry below one of its headings."""
    _, *parts = re.split(r"^## (.*)\n", entry.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))[heading]


def caveat(entry: Path) -> str:
    """The bold paragraph below the title, on one line and in lower case; empty without one."""
    below_title = entry.read_text().split("\n\n", 2)[1]
    return below_title.replace("\n", " ").lower() if below_title.startswith("**") else ""


def test_entries_and_rows_are_found() -> None:
    """Prevents searches that find nothing and so pass."""
    assert len(ENTRIES) > 40
    assert len(ROW.findall(INDEX)) == len(re.findall(r"^\| \d", INDEX, re.MULTILINE))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.stem)
def test_an_entry_has_all_parts(entry: Path) -> None:
    """Prevents an outcome without its prediction, a command without seeds or commit."""
    assert NAME.fullmatch(entry.name)
    assert entry.read_text().startswith("# ")
    assert re.findall(r"^## (.*)", entry.read_text(), re.MULTILINE) == PARTS
    assert all(part(entry, heading).strip() for heading in PARTS)
    for fact in ("Command", "Seeds", "Commit"):
        assert re.search(rf"^- {fact}\b", part(entry, "Set-up"), re.MULTILINE), fact


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.stem)
def test_an_entry_says_first_what_it_rests_on(entry: Path) -> None:
    """Prevents a reader who takes one seed, one class of reviews or a made task for a result."""
    set_up = part(entry, "Set-up")
    if re.search(r"^- Seeds: \d+(?![\d, ]*(,| to| and) ?\d)", set_up, re.MULTILINE):
        assert "one seed" in caveat(entry)
    if "experiments/imdb/arms.yaml" in set_up:
        assert "imdb held-out queries" in caveat(entry)
    if MADE_FOR_A_QUESTION.search(set_up):
        assert "made" in caveat(entry)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.stem)
def test_links_between_entries_exist(entry: Path) -> None:
    """Prevents a link to an entry that was renamed."""
    for target in re.findall(r"\]\((?!\.\./|https?://)([^)#]+)", entry.read_text()):
        assert (LOG / target).is_file(), target


def test_the_index_has_every_entry_once_newest_first() -> None:
    """Prevents an entry that nobody finds, and a link, date or title that is not the entry's."""
    rows = ROW.findall(INDEX)
    assert sorted(name for _, _, name, _, _ in rows) == [entry.name for entry in ENTRIES]
    dates = [date for date, *_ in rows]
    assert dates == sorted(dates, reverse=True)
    for date, title, name, _, _ in rows:
        assert name.startswith(date)
        assert (LOG / name).read_text().startswith(f"# {title}\n")
