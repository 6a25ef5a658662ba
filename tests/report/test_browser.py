"""Pages in a real browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright

from cory.report.pages import describe, render

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "</script><img src=x onerror='window.hacked = 1'><b>bold</b> &amp; \u202egnihton\u202c"
HOSTILE_NAME = "<b>ppo</b><img src=x onerror='window.hacked = 1'>"


def chromium() -> str:
    """Where Chromium is; the test is skipped where there is none and none was promised."""
    named = os.environ.get("CORY_TEST_CHROMIUM")
    if named is not None:
        assert Path(named).is_file(), f"CORY_TEST_CHROMIUM={named!r} must be a browser, or unset"
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(
            "no Chromium: install it (Debian: apt-get install chromium), or set CORY_TEST_CHROMIUM"
        )
    return found


# Not for the whole session: Playwright keeps an event loop running, which other tests must not see.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        yield browser
        browser.close()


class Visit:
    """An open page, and everything that it complained of or asked for."""

    def __init__(self, browser: Browser, path: Path) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(10_000)
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        expect(self.page.locator(".main-svg").first).to_be_visible()


def without_plots(directory: Path, page: Path) -> Path:
    """A page without its PNG files, which take their time."""
    page.write_text(render(describe(directory)), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def run_page(team_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_plots(team_run, tmp_path_factory.mktemp("pages") / "run.html")


@pytest.fixture(scope="module")
def comparison_page(comparison: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_plots(comparison, tmp_path_factory.mktemp("pages") / "comparison.html")


@pytest.fixture(scope="module")
def hostile_page(comparison: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison in which models, queries, arms and titles are all hostile."""
    out = shutil.copytree(comparison, tmp_path_factory.mktemp("hostile") / "out")
    described = yaml.safe_load((out / "comparison.yaml").read_text())
    described |= {"title": HOSTILE, "arms": {HOSTILE_NAME: {"run_name": HOSTILE}}}
    (out / "comparison.yaml").write_text(yaml.safe_dump(described))
    _rewrite(out / "results.parquet", {"arm": {"ppo": HOSTILE_NAME}})
    for path in out.glob("runs/*/*/samples/*.parquet"):
        rows = pyarrow.parquet.read_table(path).to_pylist()
        rows = [{**row, "answer": HOSTILE, "query": HOSTILE} for row in rows]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return without_plots(out, out / "report.html")


def _rewrite(path: Path, names: dict[str, dict[str, str]]) -> None:
    rows = pyarrow.parquet.read_table(path).to_pylist()
    changed = [
        row | {column: new.get(row[column], row[column]) for column, new in names.items()}
        for row in rows
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(changed), path)


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Visit]:
    """The page that the test names; whatever a test does on it, the page stays silent and alone."""
    visit = Visit(browser, request.getfixturevalue(request.param))
    yield visit
    hacked = visit.page.evaluate("window.hacked")
    url = visit.page.url
    visit.page.close()
    assert visit.messages == []
    assert [address for address in visit.requests if address != url.partition("#")[0]] == []
    assert hacked is None


def on(name: str) -> Any:
    return pytest.mark.parametrize("visit", [name], indirect=True)


def numbers(page: Page, pattern: str, where: str) -> list[float]:
    """A number out of each element that has it."""
    found = [re.search(pattern, text) for text in page.locator(where).all_inner_texts()]
    return [float(match[1].replace("−", "-")) for match in found if match]


@pytest.mark.parametrize("visit", ["run_page", "comparison_page"], indirect=True)
def test_every_figure_is_drawn(visit: Visit) -> None:
    """Prevents an empty frame where a plot should be."""
    plots = visit.page.locator(".panels > div")
    drawn = visit.page.locator(".panels > div .scatterlayer .trace")
    assert plots.count() >= 9
    assert drawn.count() >= plots.count()
    for plot in plots.all():
        assert plot.locator(".scatterlayer .trace").count() >= 1, plot.get_attribute("aria-label")
    assert visit.page.locator("nav a").count() == visit.page.locator("section").count()


@on("run_page")
def test_searching_filters_the_answers(visit: Visit) -> None:
    """Prevents controls that are there and do nothing."""
    page = visit.page
    status = page.locator(".status [role=status]")
    expect(status).to_have_text("1–20 of 32 queries")
    page.get_by_label("search").fill("DULL PLOT")
    shown = page.locator("article .query").all_inner_texts()
    assert shown
    assert set(shown) == {"A dull plot with a"}
    page.get_by_label("search").fill("")
    page.get_by_label("iteration", exact=True).select_option("4")
    expect(status).to_have_text("1–16 of 16 queries, filtered from 32")
    assert all("iteration 4" in text for text in page.locator("article header").all_inner_texts())
    page.get_by_label("observer better than pioneer").check()
    better = numbers(page, r"lift \+?([−\d.]+)", "article header")
    assert 0 < len(better) < 16
    assert min(better) >= 0
    page.get_by_label("observer better than pioneer").uncheck()
    rewards = numbers(page, r"reward ([−\d.]+)", "article .answer:last-child")
    middle = sorted(rewards)[8]
    page.get_by_label("reward from").fill(str(middle))
    kept = numbers(page, r"reward ([−\d.]+)", "article .answer:last-child")
    assert 0 < len(kept) < 16
    assert min(kept) >= middle - 0.005
    page.get_by_label("reward to").fill(str(middle - 1))
    expect(page.locator("article")).to_have_count(0)


@on("run_page")
def test_answers_are_sorted(visit: Visit) -> None:
    """Prevents an order by text (10 before 9), or one that the arrow contradicts."""
    page = visit.page
    patterns = {
        "lift": (r"lift \+?([−\d.]+)", "article header"),
        "copied": (r"copied (\d+)%", "article header"),
        "reward-observer": (r"reward ([−\d.]+)", "article .answer:last-child"),
        "kl-observer": (r"KL ([−\d.]+)", "article .answer:last-child"),
        "step": (r"iteration (\d+)", "article header"),
    }
    for key, (pattern, where) in patterns.items():
        page.get_by_label("sort by").select_option(key)
        values = numbers(page, pattern, where)
        assert len(values) == 20
        assert values == sorted(values, reverse=True), key
    page.get_by_role("button", name="highest first").click()
    lowest = numbers(page, *patterns["step"])
    assert lowest == sorted(lowest)
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".status [role=status]")).to_have_text("21–32 of 32 queries")
    expect(page.get_by_role("button", name="Next")).to_be_disabled()


@on("comparison_page")
def test_tables_are_sorted_by_keyboard(visit: Visit) -> None:
    """Prevents sorting for the mouse only, and by the text of a number."""
    page = visit.page
    table = page.locator("#summary table").first
    heading = table.get_by_role("button", name="KL (nats)", exact=True)

    def column() -> list[float]:
        cells = table.locator("tbody tr td:nth-child(6)").all_inner_texts()
        return [float(cell.split(" ")[0].replace("−", "-")) for cell in cells]

    heading.press("Enter")
    assert column() == sorted(column())
    assert table.locator("th[aria-sort=ascending]").count() == 1
    heading.press("Enter")
    assert column() == sorted(column(), reverse=True)
    assert table.locator("th[aria-sort=descending]").inner_text() == "KL (nats)"


@on("comparison_page")
def test_curves_follow_their_switches(visit: Visit) -> None:
    """Prevents a switch that changes a label but not the curves."""
    page = visit.page
    figure = page.locator("#figure-curves")
    lines = figure.locator(".panels > div").first.locator(".scatterlayer .js-line")

    def paths() -> list[str | None]:
        return [line.get_attribute("d") for line in lines.all()]

    over_steps = paths()
    figure.get_by_label("answers sampled in training").check()
    expect(figure.locator(".xtitle").first).to_have_text("answers sampled in training")
    over_samples = paths()
    assert over_samples != over_steps
    figure.get_by_label("model", exact=True).select_option("agent_1")
    expect(figure.locator(".legend button")).to_have_text(["cory"])
    figure.get_by_label("model", exact=True).select_option("agent_0")
    figure.get_by_label("learning rate").select_option("all")
    expect(figure.locator(".legend button")).to_have_count(4)
    before = len(paths())
    entry = figure.locator(".legend button").first
    entry.press("Enter")
    expect(entry).to_have_attribute("aria-pressed", "false")
    expect(entry).to_be_focused()
    assert len(paths()) < before


@on("comparison_page")
def test_a_run_of_a_comparison_is_picked(visit: Visit) -> None:
    """Prevents answers of one arm from standing under another's name."""
    page = visit.page
    page.get_by_label("run", exact=True).select_option(label="ppo · lr 0.001 · seed 1")
    headers = page.locator("article header").all_inner_texts()
    assert len(headers) == 8
    assert all(header.startswith("ppo · lr 0.001 · seed 1 · ") for header in headers)
    assert page.locator("article .answer").count() == 16


@on("hostile_page")
def test_what_models_write_is_shown_as_text(visit: Visit) -> None:
    """Prevents an answer that runs as a script, or turns round what stands beside it."""
    page = visit.page
    shown = HOSTILE.replace("\u202e", "U+202E").replace("\u202c", "U+202C")
    expect(page.locator("h1")).to_have_text(shown)
    expect(page.locator("article .query").first).to_have_text(shown)
    expect(page.locator("article .said").nth(1)).to_have_text(shown)
    assert page.locator("article .control").count() > 0
    page.get_by_label("run", exact=True).select_option(index=1)
    expect(page.locator("#figure-curves .legend button").first).to_have_text(HOSTILE_NAME)
    plot = page.locator("#figure-curves .panels > div").first
    plot.hover()
    expect(plot.locator(".hoverlayer")).to_contain_text(HOSTILE_NAME)
    expect(page.locator("#arms th[scope=row]").first).to_have_text(HOSTILE_NAME)
    assert page.locator("img, article b, h1 b").count() == 0
