"""Real runs, tiny ones, for pages to be written about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.report.browsing import Visit, chromium
from tests.report.comparisons import gather, run_directory
from tests.tiny_runs import queries, trainer

ARMS = {"ppo": {"num_agents": 1}, "cory": {}}
RATES = (1e-3, 1e-1)
SEEDS = (0, 1)


@pytest.fixture(scope="session")
def team_run(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team of two that exchanged roles once, evaluated before, between and after."""
    directory = tmp_path_factory.mktemp("runs") / "team"
    trainer(
        tiny_gpt2_dir,
        directory,
        eval_dataset=queries(4),
        max_steps=4,
        batch_size=16,
        eval_steps=2,
        log_samples_steps=2,
    ).train()
    return directory


@pytest.fixture(scope="session")
def single_run(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team of one that was evaluated at its end only."""
    directory = tmp_path_factory.mktemp("runs") / "single"
    trainer(
        tiny_gpt2_dir, directory, num_agents=1, log_samples_steps=1, eval_dataset=queries(4)
    ).train()
    return directory


@pytest.fixture(scope="session")
def comparison(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms, two learning rates, two seeds."""
    out = tmp_path_factory.mktemp("comparison")
    runs: list[tuple[str, Path]] = []
    for arm, changes in ARMS.items():
        for rate in RATES:
            for seed in SEEDS:
                settings = {"kl_coef": 0.05, "learning_rate": rate, **changes}
                directory = run_directory(out, arm, settings, seed)
                trainer(
                    tiny_gpt2_dir,
                    directory,
                    eval_dataset=queries(4),
                    eval_steps=1,
                    log_samples_steps=2,
                    seed=seed,
                    **settings,
                ).train()
                runs.append((arm, directory))
    gather(out, ARMS, runs)
    return out


# Not for the whole session: Playwright keeps an event loop running, which other tests must not see.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        yield browser
        browser.close()


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
