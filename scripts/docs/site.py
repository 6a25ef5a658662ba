"""Hooks of mkdocs: formulas become MathML, and links that leave docs/ become plain text.

A browser shows MathML by itself, so the site needs no script and no network for its formulas. Files
outside docs/ are links on a git host only: the site does not hold them.
"""

from __future__ import annotations

import html
import posixpath
import re

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>\.\./[^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep the text of a link that leaves docs/, without the link."""
    directory = posixpath.dirname(page.file.src_uri)

    def inside(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(directory, link["target"]))
        return link["text"] if target.startswith("../") else link[0]

    return LINK.sub(inside, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write each formula as MathML."""
    return FORMULA.sub(_mathml, content)


def _mathml(formula: re.Match[str]) -> str:
    latex = html.unescape(formula["latex"]).strip()
    return convert(latex, display="block" if formula["open"] == "[" else "inline")
