"""Hooks of mkdocs: formulas become SVG, and links that leave docs/ are settled.

An SVG needs no script, no font and no network. Files outside docs/ are links on a git host only:
the site keeps the text of a link, and takes in the picture of an image.
"""

from __future__ import annotations

import html
import posixpath
import re
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify
from ziamath import Latex

DISPLAY_SIZE, INLINE_SIZE = 18, 17
DISPLAY_STYLE = "overflow-x: auto; text-align: center"
INLINE_FORMULA = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
LINK = re.compile(r"(?P<is_image>!?)\[(?P<text>[^\]]+)\]\((?P<target>\.\./[^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read fences of `math` as formulas, and name headings as git hosts do."""
    fence = {"name": "math", "class": "math", "format": display_formula}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def display_formula(latex: str, *_: Any, **__: Any) -> str:
    """A formula on lines of its own as SVG, with its source for screen readers."""
    svg = Latex(latex.strip(), size=DISPLAY_SIZE, color="currentColor").svg()
    return f'<div role="img" aria-label="{_label(latex)}" style="{DISPLAY_STYLE}">{svg}</div>'


def inline_formula(latex: str) -> str:
    """A formula inside a line as SVG, on the baseline of the text."""
    formula = Latex(latex.strip(), size=INLINE_SIZE, color="currentColor", inline=True)
    style = f"vertical-align: {formula.getyofst():.2f}px"
    label = _label(latex)
    return f'<span role="img" aria-label="{label}"><svg style="{style}" {formula.svg()[4:]}</span>'


def _label(latex: str) -> str:
    return html.escape(latex.strip(), quote=True)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw the formulas inside lines."""
    return INLINE_FORMULA.sub(lambda found: inline_formula(html.unescape(found[1])), content)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Settle the links of a page that leave docs/."""
    return LINK.sub(partial(_inside, page=page, config=config, files=files), markdown)


def _inside(link: re.Match[str], page: Page, config: MkDocsConfig, files: Files) -> str:
    directory = posixpath.dirname(page.file.src_uri)
    target = posixpath.normpath(posixpath.join(directory, link["target"]))
    if not target.startswith("../"):
        return link[0]
    if not link["is_image"]:
        return link["text"]
    path = Path(config.docs_dir) / target
    place = f"outside/{target.removeprefix('../')}"
    if files.get_file_from_path(place) is None:
        files.append(File.generated(config, place, abs_src_path=str(path.resolve(strict=True))))
    return f"![{link['text']}]({posixpath.relpath(place, directory)})"
