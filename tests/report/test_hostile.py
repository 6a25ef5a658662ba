"""Pages about what hostile models, data sets and configs wrote, in a real browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import yaml
from playwright.sync_api import Browser, expect

from cory.io.terminal import printable
from cory.report.pages import describe, render
from tests.report.browsing import Visit, without_plots

HACK = "window.hacked=1"
PAYLOADS = {
    "script": f"<script>{HACK}</script>",
    "end of script": f"</script><script>{HACK}</script>",
    "handler": f"</script><img src=x onerror='{HACK}'><svg/onload={HACK}><b>bold</b>",
    "attribute": f"\" onmouseover=\"{HACK}\" autofocus onfocus='{HACK}' x='",
    "link": f'<a href="javascript:{HACK}">go</a> [go](javascript:{HACK}) javascript:{HACK}',
    "comment": f"<!-- <script>{HACK}//--></script> --!> ]]> <![CDATA[",
    "JSON": '"}],"x":[{"\\"}\\u003cscript\\u003e\\\\',
    "template": "{{data}} ${1+1} %{x} %{customdata} $\\frac{1}{0}$ &lt;b&gt; &#60;",
    "null": "before\0after",
    "controls": "\x1b[2J\x08\x7f\x9b",
    "separators": "one\u2028two\u2029three\ufeff\u200b",
    "override": "abc \u202egnihton\u202c \u202e never closed",
    "isolates": "\u2067\u2066\u2068 never closed, too often closed \u2069\u2069\u2069\u202c",
    "tags": "\U000e0041\U000e0042 unseen",
    "prototype": "__proto__",
    "style": f"</style></title></textarea><iframe srcdoc='<script>parent.{HACK}</script>'>",
}
HALF = "half \ud800 of a character \udc00"
EVERYTHING = " ".join(PAYLOADS.values())
RIGHT_TO_LEFT = "שלום 12 \u202e34 \u2067"


def shown(text: str) -> str:
    """How a page shows a text: controls by their number, in a box of their own."""
    return re.sub(r"<(U\+[0-9A-F]{4,6})>", r"\1", printable(text))


def _rename_arms(directory: Path, names: dict[str, str]) -> None:
    for path in directory.glob("*.csv"):
        table = pd.read_csv(path)
        table.replace({"arm": names}).to_csv(path, index=False)


def _change(path: Path, **changes: Any) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@pytest.fixture(scope="module")
def hostile_comparison(comparison: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in which models, queries, roles, arms, settings and titles are all hostile."""
    out = shutil.copytree(comparison, tmp_path_factory.mktemp("hostile") / "out")
    arms = {EVERYTHING: {"run_name": EVERYTHING, EVERYTHING: HALF}, RIGHT_TO_LEFT: {}}
    _change(out / "comparison.yaml", title=EVERYTHING + HALF, arms=arms, task=EVERYTHING)
    _change(out / "comparison.yaml", base={"prompt_column": EVERYTHING, EVERYTHING: HALF})
    _rename_arms(out, {"ppo": EVERYTHING, "cory": RIGHT_TO_LEFT})
    payloads = list(PAYLOADS.values())
    for path in out.glob("runs/*/*/samples/*.parquet"):
        rows = [
            row | {"query": payloads[row["index"]], "answer": payloads[-row["index"]] + EVERYTHING}
            for row in pyarrow.parquet.read_table(path).to_pylist()
        ]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return out


@pytest.fixture(scope="module")
def hostile_comparison_page(hostile_comparison: Path) -> Path:
    return without_plots(hostile_comparison, hostile_comparison / "report.html")


@pytest.fixture(scope="module")
def hostile_run_page(team_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a hostile name and hostile columns; each payload is a query and an answer."""
    run = shutil.copytree(team_run, tmp_path_factory.mktemp("hostile") / "run")
    _change(run / "config.yaml", run_name=EVERYTHING + HALF, prompt_column=EVERYTHING)
    _change(run / "config.yaml", model_name_or_path=PAYLOADS["handler"])
    template = pyarrow.parquet.read_table(next(run.glob("samples/*.parquet"))).to_pylist()[0]
    speakers = (("agent_0", "pioneer"), (EVERYTHING, "observer"), ("initial model",) * 2)
    rows = [
        template
        | {"index": index, "query": text, "answer": text, "agent": agent, "role": role, "kl": 0.0}
        for index, text in enumerate(PAYLOADS.values())
        for agent, role in speakers
    ]
    for path in run.glob("samples/*.parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return without_plots(run, run / "report.html")


def on(name: str) -> Any:
    return pytest.mark.parametrize("visit", [name], indirect=True)


@on("hostile_run_page")
def test_every_query_and_answer_is_shown_as_text(visit: Visit) -> None:
    """Prevents an answer that runs as a script, or vanishes."""
    page = visit.page
    seen = set()
    for turn in range(2):
        for said in page.locator("article").evaluate_all(
            "all => all.map(one => [...one.querySelectorAll('.said')].map(p => p.textContent))"
        ):
            assert len(set(said)) == 1, "the query and every answer to it are the same text"
            seen |= set(said)
        if turn == 0:
            page.get_by_role("button", name="Next").click()
    assert seen == {shown(text) for text in PAYLOADS.values()}
    assert page.title() == " ".join(printable(EVERYTHING + HALF).split())
    assert page.locator("h1").text_content() == shown(EVERYTHING + HALF)
    expect(page.locator("#settings td", has_text=shown(EVERYTHING)).first).to_be_attached()
    expect(page.locator("dd", has_text=shown(PAYLOADS["handler"])).first).to_be_visible()
    made = "main img, main script, main iframe, main b:not(figcaption b), main a[href^=javascript]"
    assert page.locator(made).count() == 0


@pytest.mark.parametrize("visit", ["hostile_run_page", "hostile_comparison_page"], indirect=True)
def test_nothing_runs_whatever_is_touched(visit: Visit) -> None:
    """Prevents a script that waits for a mouse, a key, a search or a choice."""
    page = visit.page
    for select in page.locator("select:visible").all():
        select.select_option(index=1)
        select.select_option(index=0)
    for button in page.locator("#arms th button, .legend button").all()[:6]:
        button.press("Enter")
    for place in page.locator("h1, .panels > div, .said, .who, th[scope=row]").all()[::8][:12]:
        place.hover()
    page.get_by_label("search").fill(PAYLOADS["end of script"])
    page.get_by_label("search").fill("")
    page.keyboard.press("Tab")


@on("hostile_comparison_page")
def test_names_of_arms_are_names(visit: Visit) -> None:
    """Prevents plotly from reading HTML, links or templates in a name."""
    page = visit.page
    expect(page.locator("#figure-curves .legend button").first).to_have_text(shown(EVERYTHING))
    plot = page.locator("#figure-curves .panels > div").first
    plot.hover()
    expect(plot.locator(".hoverlayer")).to_contain_text("%{x} %{customdata}")
    expect(plot.locator(".hoverlayer")).to_contain_text("<U+202E>gnihton")
    assert page.locator(".hoverlayer a").count() == 0
    assert page.locator("#arms th[scope=row]").first.text_content() == shown(EVERYTHING)
    option = page.get_by_label("run", exact=True).locator("option").nth(1)
    assert (option.text_content() or "").startswith(printable(EVERYTHING))


@on("hostile_comparison_page")
def test_a_text_does_not_turn_its_neighbours_round(visit: Visit) -> None:
    """Prevents a name written from right to left from reordering the numbers beside it."""
    page = visit.page
    of_right_to_left = page.get_by_label("run", exact=True).locator("option").count() - 1
    page.get_by_label("run", exact=True).select_option(index=of_right_to_left)
    parts = page.locator("article header").first.locator("bdi")
    texts = [part.text_content() or "" for part in parts.all()]
    assert texts[0].startswith(shown(RIGHT_TO_LEFT))
    assert [text.split()[0] for text in texts[1:]] == ["iteration", "query"]
    boxes = [part.bounding_box() for part in parts.all()]
    lefts = [box["x"] for box in boxes if box is not None]
    assert lefts == sorted(lefts)
    assert len(set(lefts)) == 3
    for where in ("h1", "article .said", "article .query", "#arms th[scope=row]", "td", "dd"):
        style = "element => getComputedStyle(element).unicodeBidi"
        assert page.locator(where).first.evaluate(style) == "isolate", where


def test_without_isolation_the_neighbours_would_turn(browser: Browser) -> None:
    """Prevents a test of isolation that cannot fail."""
    page = browser.new_page()
    page.set_content("<p><span>שלום 12</span> <span>34</span> <span>56</span></p>")
    boxes = [part.bounding_box() for part in page.locator("span").all()]
    lefts = [box["x"] for box in boxes if box is not None]
    page.close()
    assert lefts != sorted(lefts)


INJECTED = {
    "script": "<script>{}</script>",
    "handler": '<img src=x onerror="{}">',
    "frame": "<iframe srcdoc='<script>parent.{}</script>'></iframe>",
    "data": "<script src='data:text/javascript,{}'></script>",
    "link": '<a id=link href="javascript:{}">go</a>',
}


def test_the_policy_stops_what_escaping_would_miss(
    browser: Browser, hostile_run_page: Path, tmp_path: Path
) -> None:
    """Prevents a content security policy that allows more than the page's own two scripts."""
    injected = "".join(way.format(f"window.ran_{name}=1") for name, way in INJECTED.items())
    text = hostile_run_page.read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("<main ", f"{injected}<main "), "utf-8")
    (tmp_path / "open.html").write_text(f"<body>{injected}</body>")
    ran = {}
    for name in ("open.html", "page.html"):
        page = browser.new_page()
        page.goto((tmp_path / name).as_uri())
        page.locator("#link").click()
        page.wait_for_timeout(500)
        ran[name] = {way for way in INJECTED if page.evaluate(f"window.ran_{way} === 1")}
        page.close()
    assert ran == {"open.html": set(INJECTED), "page.html": set()}


@pytest.mark.parametrize("run", ["../elsewhere", "/", "runs/../../elsewhere", "a\0b"])
def test_a_comparison_links_to_no_other_place(comparison: Path, tmp_path: Path, run: str) -> None:
    """Prevents answers of any file on the disk from ending up in a page that is mailed."""
    out = shutil.copytree(comparison, tmp_path / "out")
    table = pd.read_csv(out / "results.csv")
    table.assign(run=run).to_csv(out / "results.csv", index=False)
    with pytest.raises(ValueError, match=r"leads out of .*must be a path inside"):
        describe(out)
    assert render(describe(comparison))


def test_names_do_not_choose_where_pictures_go(hostile_comparison: Path) -> None:
    """Prevents an arm called `../x` from writing its plots beside the report."""
    sections = describe(hostile_comparison).sections
    keys = [figure.key for section in sections for figure in section.figures]
    assert len(keys) == 3
    assert all(re.fullmatch(r"[a-z_]+", key) for key in keys)
