"""From a directory to a page: one HTML file that asks nothing of any network, and PNG files.

Everything that a run wrote reaches the page as JSON, and the page shows it as text only. A content
security policy lets no script run but the two that are written here, and no address be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from cory import __version__
from cory.io.files import refuse_links, refuse_unwritable_file, replace_text
from cory.io.terminal import printable
from cory.report.answers import browse
from cory.report.comparison import describe_comparison
from cory.report.contents import Contents
from cory.report.figures import COLOURS, DASHES
from cory.report.pictures import draw
from cory.report.run import describe_run
from cory.report.several import describe_runs

MAX_BYTES = 7_500_000
"""Of a page: mail and browsers take it."""
MAX_ANSWER_BYTES = 3_000_000
"""Of its answers."""
SCRIPTS = ("dom.js", "figures.js", "tables.js", "answers.js", "report.js")
_HALF = re.compile("[\\ud800-\\udfff]")


def write_report(
    directory: str | Path,
    out: str | Path | None = None,
    *others: str | Path,
    refresh: int | None = None,
) -> Path:
    """Write a run or a comparison as one HTML page, and its plots as files beside it.

    Args:
        directory: of a run (it holds config.yaml) or of a comparison (comparison.yaml).
        out: the HTML file; None: `report.html` in the directory, of several runs in the working
            directory. Plots go to `plots/` beside it.
        others: runs to show beside that one.
        refresh: seconds after which a browser loads the page again; None: never.

    Returns:
        the HTML file.

    Raises:
        ValueError: the directory holds neither, or nothing was measured yet.
    """
    directory = Path(directory)
    place = Path() if others else directory
    path = place / "report.html" if out is None else Path(out)
    runs = [directory, *map(Path, others)]
    contents = describe_runs(runs) if others else describe(directory)
    refuse_unwritable_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse_links(path.parent, "plots")
    replace_text(path, render(contents, refresh))
    for section in contents.sections:
        for figure in section.figures:
            draw(figure, path.parent / "plots" / f"{figure.key}.png")
    return path


def describe(directory: Path) -> Contents:
    """What a directory's page shows."""
    if (directory / "comparison.yaml").is_file():
        return describe_comparison(directory)
    if (directory / "config.yaml").is_file():
        return describe_run(directory)
    raise ValueError(
        f"{directory} is neither a run (no config.yaml) nor a comparison (no comparison.yaml): "
        "name the output_dir of `cory train` or `cory compare`"
    )


def render(contents: Contents, refresh: int | None = None) -> str:
    """The page as HTML; a browser loads it again after `refresh` seconds, None: never."""
    page = asdict(contents) | {"palette": COLOURS, "dashes": DASHES, "version": __version__}
    runs = page.pop("runs")
    plotly = _read("plotly-basic.min.js")
    script = "\n".join(_read(name) for name in SCRIPTS)
    rest = len(plotly) + len(script) + len(_json(page))
    room = min(MAX_ANSWER_BYTES, MAX_BYTES - rest)
    page["answers"] = browse(runs, max_bytes=room)
    parts = {
        "refresh": f'<meta http-equiv="refresh" content="{refresh}">' if refresh else "",
        "title": html.escape(printable(contents.title)),
        "policy": f"'{_digest(plotly)}' '{_digest(script)}'",
        "style": _read("page.css"),
        "data": _json(page),
        "plotly": plotly,
        "script": script,
    }
    # In one go, so that nobody looks for places inside of parts.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _read("page.html"))


def _json(value: Any) -> str:
    """JSON that may stand inside an HTML script element: without any `<`, and without NaN.

    Halves of characters, which no file of UTF-8 can hold, are written by their number.
    """
    text = json.dumps(_short(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)
    return text.replace("<", "\\u003c")


def _short(value: Any) -> Any:
    """Numbers to 6 digits, which no plot shows more of; those that are not finite as None."""
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _digest(script: str) -> str:
    """How a content security policy names a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _read(name: str) -> str:
    return files("cory.report").joinpath("page", name).read_text(encoding="utf-8")
