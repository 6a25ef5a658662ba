"""The file: one, small enough, closed to every network, with its plots beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from cory.cli import main
from cory.report import pages, write_report

SCRIPT = re.compile(r"<script([^>]*)>(.*?)</script>", re.DOTALL)


def data_of(page: str) -> dict:
    (data,) = [text for attributes, text in SCRIPT.findall(page) if "json" in attributes]
    return json.loads(data)


def test_a_run_becomes_a_page_with_plots(team_run: Path, tmp_path: Path) -> None:
    """Prevents files in unexpected places, and a plot on the page that has no PNG."""
    path = write_report(team_run, tmp_path / "pages" / "team.html")
    assert path == tmp_path / "pages" / "team.html"
    plots = [plot.stem for plot in (path.parent / "plots").glob("*.png")]
    data = data_of(path.read_text())
    shown = [figure["key"] for section in data["sections"] for figure in section["figures"]]
    assert sorted(plots) == sorted(shown)
    assert len(shown) == 5
    assert not (team_run / "report.html").exists()


def test_a_comparison_becomes_a_page_by_command(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a command that cannot tell a comparison from a run."""
    out = shutil.copytree(comparison, tmp_path / "out")
    main(["report", str(out)])
    assert f"wrote {out / 'report.html'}" in capsys.readouterr().err
    assert data_of((out / "report.html").read_text())["kind"] == "comparison"
    assert sorted(path.stem for path in (out / "plots").glob("*.png")) == [
        "curves",
        "frontier",
        "robustness",
    ]


def test_the_page_runs_its_own_scripts_only(team_run: Path) -> None:
    """Prevents a policy that lets other scripts run, or not even the page's own."""
    page = pages.render(pages.describe(team_run))
    policy = page.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    scripts = [text for attributes, text in SCRIPT.findall(page) if "json" not in attributes]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in scripts]
    assert rules["script-src"] == " ".join(f"'sha256-{digest.decode()}'" for digest in hashes)
    assert len(scripts) == 2
    assert not re.search(r"<(?:link|script|img|iframe)[^>]+(?:src|href)=\"(?!data:)", page)


def test_pages_stay_small(team_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a page that mail refuses: what does not fit is left out, and the page says so."""
    assert len(pages.render(pages.describe(team_run)).encode()) < 2e6
    monkeypatch.setattr(pages, "MAX_ANSWER_BYTES", 5000)
    data = data_of(pages.render(pages.describe(team_run)))
    answers = data["answers"]
    assert 0 < len(answers["entries"]) < answers["total"] == 32
    assert len(json.dumps(answers["entries"])) < 6000


def test_numbers_that_json_does_not_know() -> None:
    """Prevents `NaN` in the page, at which browsers stop reading."""
    text = pages._json({"lost": float("nan"), "endless": [float("inf")], "long": 1 / 3})
    assert json.loads(text) == {"lost": None, "endless": [None], "long": 0.333333}


def test_titles_cannot_break_out(team_run: Path, tmp_path: Path) -> None:
    """Prevents a run's name from being read as HTML."""
    run = shutil.copytree(team_run, tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["run_name"] = "</title><script>alert(1)</script>{{data}}"
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    page = pages.render(pages.describe(run))
    assert "<script>alert" not in page
    assert len(SCRIPT.findall(page)) == 3
    assert data_of(page)["title"] == settings["run_name"]


def test_the_plotting_library_may_be_shipped() -> None:
    """Prevents shipping it without its licence, which is what the licence asks for."""
    folder = Path(pages.__file__).parent / "page"
    assert "Licensed under the MIT license" in (folder / "plotly-basic.min.js").read_text()[:300]
    assert (folder / "plotly-LICENSE.txt").read_text().startswith("MIT License")
