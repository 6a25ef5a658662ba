"""docs/reference follows the source: what is generated is up to date, what is listed exists."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from cory.cli import COMMANDS
from cory.config import CORYConfig
from scripts.docs import reference

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
DIRECTIVES = re.findall(r"^::: (\S+)", (REFERENCE / "api.md").read_text(), re.MULTILINE)
LISTED = re.findall(r"^\| `(\S+)` \|", (REFERENCE / "api.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", reference.PAGES)
def test_pages_are_up_to_date(name: str) -> None:
    """Prevents a reference of yesterday's settings; `make reference` renews it."""
    assert (REFERENCE / name).read_text() == reference.PAGES[name]()


def test_every_setting_has_a_heading_and_a_meaning() -> None:
    """Prevents a generator that leaves settings out, or leaves them unexplained."""
    page = reference.settings_page()
    for field in fields(CORYConfig):
        entry = page.split(f"\n### `{field.name}`\n")
        assert len(entry) == 2, field.name
        kind, meaning = entry[1].strip().split("\n\n")[:2]
        assert "Default: " in kind
        assert not meaning.startswith("#"), f"{field.name} has no docstring"


def test_every_command_has_its_options() -> None:
    """Prevents a generator that no longer understands the help."""
    _, *sections = reference.command_line_page().split("\n## `cory ")
    assert [section.partition("`")[0] for section in sections] == list(COMMANDS)
    assert all("\n- `" in section and "```text\ncory" in section for section in sections)


def test_an_outdated_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a check that accepts anything."""
    monkeypatch.setattr(reference, "DIRECTORY", tmp_path)
    reference.write()
    assert reference.outdated() == []
    page = tmp_path / "settings.md"
    page.write_text(page.read_text().replace("num_agents", "number_of_agents"))
    assert reference.outdated() == [page]


@pytest.mark.parametrize("name", sorted({*DIRECTIVES, *LISTED}))
def test_names_of_the_api_exist(name: str) -> None:
    """Prevents a page about names that are gone."""
    module, _, attribute = name.rpartition(".")
    try:
        import_module(name)
    except ModuleNotFoundError:
        assert hasattr(import_module(module), attribute)
