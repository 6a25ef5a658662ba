"""The site: formulas that need no network, and links that stay inside it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mkdocs.structure.files import Files

from scripts.docs import hooks

ROOT = Path(__file__).resolve().parents[2]
CONFIG: Any = SimpleNamespace(
    docs_dir=str(ROOT / "docs"),
    site_dir="site",
    use_directory_urls=False,
    plugins=SimpleNamespace(_current_plugin="site"),
)
PAGE: Any = SimpleNamespace(file=SimpleNamespace(src_uri="how-to/page.md"))
FORMULAS = [
    (page.name, latex)
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for latex in re.findall(r"^```math\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
]


def settled(markdown: str, files: Files) -> str:
    return hooks.on_page_markdown(markdown, PAGE, CONFIG, files)


@pytest.mark.parametrize(
    "markdown",
    ["[metrics](../reference/metrics.md#vllm)", "[other](other.md)", "![team](../pictures/a.svg)"],
)
def test_links_inside_the_site_stay(markdown: str) -> None:
    """Prevents pages that lose their links to each other."""
    assert settled(markdown, Files([])) == markdown


def test_a_link_out_of_the_site_becomes_text() -> None:
    """Prevents dead links on the site to files that only a checkout has."""
    assert settled("see [the file](../../Makefile#L3).", Files([])) == "see the file."


def test_a_picture_from_elsewhere_is_taken_in() -> None:
    """Prevents pages without the plots that stand beside their data."""
    files = Files([])
    picture = "experiments/imdb/results/frontier.png"
    markdown = settled(f"![frontier](../../{picture}) ![frontier](../../{picture})", files)
    assert markdown == " ".join([f"![frontier](../outside/{picture})"] * 2)
    (taken,) = files
    assert Path(taken.abs_src_path or "") == ROOT / picture


def test_a_picture_that_is_missing_is_an_error() -> None:
    """Prevents a build that succeeds without the picture."""
    with pytest.raises(FileNotFoundError):
        settled("![gone](../../experiments/gone.png)", Files([]))


@pytest.mark.parametrize(("page", "latex"), FORMULAS, ids=[name for name, _ in FORMULAS])
def test_formulas_are_drawn(page: str, latex: str) -> None:
    r"""Prevents formulas that a reader sees as source: no command may be left as text.

    `\_` inside `\text` is one that the library does not know.
    """
    assert r"\_" not in latex, page
    assert "<path" in hooks.display_formula(latex)


def test_a_formula_in_a_line_stands_on_its_baseline() -> None:
    """Prevents inline formulas that hang above the text, or that hide their source."""
    content = r'so <span class="arithmatex">\(x_1 &lt; y_{t}\)</span> holds'
    drawn = hooks.on_page_content(content, PAGE, CONFIG, Files([]))
    assert re.fullmatch(r"so <span role.*</span> holds", drawn, re.DOTALL)
    assert 'aria-label="x_1 &lt; y_{t}"' in drawn
    assert float(re.findall(r"vertical-align: (\S+)px", drawn)[0]) < 0
