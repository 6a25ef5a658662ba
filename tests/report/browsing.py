"""Headless Chromium, driven by Playwright, and pages to open in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cory.report.pages import describe, render

NAMES = ("chromium", "chromium-browser", "google-chrome")


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
