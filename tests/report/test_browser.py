"""Pages in a real browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.report.browsing import Visit, without_plots


@pytest.fixture(scope="module")
def run_page(team_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_plots(team_run, tmp_path_factory.mktemp("pages") / "run.html")


@pytest.fixture(scope="module")
def comparison_page(comparison: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_plots(comparison, tmp_path_factory.mktemp("pages") / "comparison.html")


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
def test_buttons_of_a_plot_stand_on_the_page(visit: Visit) -> None:
    """Prevents grey boxes over a plot, where its clear paper is taken for black."""
    plot = visit.page.locator(".panels > div").first
    plot.hover()
    colours = plot.locator(".modebar-group").evaluate_all(
        "groups => groups.map(group => getComputedStyle(group).backgroundColor)"
    )
    assert colours
    assert set(colours) == {"rgba(0, 0, 0, 0)"}


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
