"""The pages of results hold what the stored evaluations say, and say what they rest on."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

import cory
from cory.algorithm.intervals import estimate
from scripts.results.catalogue import TABLES
from scripts.results.catalogue.questions import QUESTIONS
from scripts.results.columns import Row, difference_text
from scripts.results.evaluations import Evaluations, read_evaluations
from scripts.results.pages import BLOCK, EXPERIMENTS, PAGES, render
from scripts.results.questions import Question
from scripts.results.tables import Copied, markdown

ROOT = Path(__file__).resolve().parents[2]
FIGURE = re.compile(r"([+−]?\d*\.\d+) ± (\d*\.\d+)")
MADE_FOR_THE_QUESTION = {"rare", "rarest", "misled", "second-look", "second-look-eta-0.1"}
NAMES = sorted(path.stem for path in PAGES.glob("*.md"))


@pytest.fixture(scope="module")
def experiments() -> Mapping[str, Evaluations]:
    """Every stored evaluation."""
    return {name: experiment.read() for name, experiment in EXPERIMENTS.items()}


def text_of(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


def opening(name: str) -> str:
    """The first paragraph of a page."""
    return " ".join(text_of(name).split("\n\n")[1].split())


def test_make_results_would_change_nothing() -> None:
    """Prevents a table that is typed, or older than its data.

    In a process of its own, where annotations are not checked at every call.
    """
    source = Path(cory.__file__).resolve().parents[1]
    check = subprocess.run(
        [sys.executable, "-m", "scripts.results", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_a_figure_that_was_changed_by_hand_is_written_again(
    experiments: Mapping[str, Evaluations],
) -> None:
    """Prevents a marker that is passed over."""
    page = text_of("bfloat16")
    changed = page.replace("−0.049 ± 0.061", "+0.049 ± 0.061")
    assert changed != page
    assert render(changed, experiments) == page


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_levels_are_those_that_cory_compare_stored(
    name: str, experiments: Mapping[str, Evaluations]
) -> None:
    """Prevents a second computation that drifts from `cory compare`'s summary and frontier."""
    folder = ROOT / EXPERIMENTS[name].folder
    stored = {
        "summary.csv": {"reward": "task_reward", "KL": "kl"},
        "frontier.csv": {"hypervolume": "hypervolume"},
    }
    for file, measures in stored.items():
        if not (folder / file).is_file():
            continue
        for row in pd.read_csv(folder / file).to_dict("records"):
            agent = row.get("agent", "mean")
            if agent == "worst":
                continue
            for measure, column in measures.items():
                found = estimate(experiments[name].at_end(row["arm"], agent, measure).values())
                assert found.mean == pytest.approx(row[column], rel=1e-9)
                assert found.half_width == pytest.approx(
                    row[f"{column}_interval"], rel=1e-9, nan_ok=True
                )


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """By hand: differences .1 and .3, so .2 ± 12.706 · .1; the third seed has no partner."""
    runs = {("ppo", 0): 0.2, ("ppo", 1): 0.5, ("team", 0): 0.3, ("team", 1): 0.8, ("team", 2): 9.0}
    lines = ["arm,seed,agent,step,task_reward,kl"]
    lines += [f"{arm},{seed},agent_0,5,{reward},1.0" for (arm, seed), reward in runs.items()]
    (tmp_path / "results.csv").write_text("\n".join(lines))
    found = read_evaluations(tmp_path / "results.csv").difference("team", "mean", "ppo", "reward")
    assert found == pytest.approx({0: 0.1, 1: 0.3})
    assert difference_text(found, 2) == "+0.20 ± 1.27"
    assert difference_text({0: -0.21, 1: -0.19}, 2) == "**−0.20 ± 0.13**"


def test_a_team_counts_by_the_mean_of_its_agents(tmp_path: Path) -> None:
    """Prevents a team reported by its better agent, or with its merged model in the mean."""
    agents = {"agent_0": 0.2, "agent_1": 0.6, "merged": 0.9}
    lines = ["arm,seed,agent,step,task_reward,kl"]
    lines += [f"team,0,{agent},5,{reward},1.0" for agent, reward in agents.items()]
    (tmp_path / "results.csv").write_text("\n".join(lines))
    found = read_evaluations(tmp_path / "results.csv")
    assert found.at_end("team", "mean", "reward") == pytest.approx({0: 0.4})
    assert found.at_end("team", "merged", "reward") == {0: 0.9}


def test_a_run_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    """Prevents a mean over runs of different lengths."""
    lines = ["arm,seed,agent,step,task_reward,kl,kl_coef,learning_rate"]
    lines += [f"ppo,{seed},agent_0,{step},0.5,1.0,0.1,0.1" for seed, step in ((0, 5), (1, 4))]
    (tmp_path / "results.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="iterations"):
        read_evaluations(tmp_path / "results.csv")


def test_a_wide_table_is_refused() -> None:
    """Prevents tables that a reader cannot follow."""
    with pytest.raises(ValueError, match="split it"):
        markdown(["column"] * 7, [])


@pytest.mark.parametrize("block", ["<!-- table no-such -->\n<!-- end -->", "<!-- end -->"])
def test_a_wrong_marker_is_refused(block: str) -> None:
    """Prevents a misspelt marker that leaves an old table in its place."""
    with pytest.raises(ValueError, match="table"):
        render(f"# Page\n\n{block}\n", {})


@pytest.mark.parametrize("name", NAMES)
def test_figures_in_prose_stand_in_a_table_of_the_page(name: str) -> None:
    """Prevents a sentence that keeps a number after its table has changed."""
    page = text_of(name)
    tables = {match for block in BLOCK.finditer(page) for match in FIGURE.findall(block[0])}
    known = {(mean.lstrip("+"), width) for mean, width in tables}
    said = FIGURE.findall(" ".join(BLOCK.sub("", page).split()))
    assert {(mean.lstrip("+"), width) for mean, width in said} <= known


def test_every_table_and_every_page_is_found() -> None:
    """Prevents results that nobody reaches from the index."""
    pages = "".join(text_of(name) for name in NAMES)
    asked = {match[1] for match in re.finditer(r"<!-- table (\S+) -->", pages)}
    assert asked == set(TABLES)
    linked = set(re.findall(r"\]\(([\w-]+)\.md\)", text_of("index")))
    assert linked | {"index"} == set(NAMES)
    assert {question.page for question in QUESTIONS} <= linked


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_is_said_first(name: str, experiments: Mapping[str, Evaluations]) -> None:
    """Prevents a page that rests on one seed and says so at its end."""
    rows = rows_of(name)
    seeds = {len(experiments[row.experiment].at_end(row.arm, "mean", "reward")) for row in rows}
    if seeds == {1}:
        assert "one seed" in opening(name).lower()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.page)
def test_a_task_made_for_the_question_is_said_first(question: Question) -> None:
    """Prevents a win on a task made for it that reads like any other."""
    used = {row.experiment for row in question.effects}
    if used and used <= MADE_FOR_THE_QUESTION:
        assert "made for this question" in opening(question.page)
        assert "made for the question" in question.answer.lower()


def test_imdb_says_what_its_queries_were() -> None:
    """Prevents numbers about negative openings alone that read like numbers about IMDB."""
    resting = [name for name in NAMES if any(row.experiment == "imdb" for row in rows_of(name))]
    assert "imdb" in resting
    for name in resting:
        if {row.experiment for row in rows_of(name)} == {"imdb"}:
            assert "one class" in opening(name)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_command_names_the_stored_arms(
    name: str, experiments: Mapping[str, Evaluations]
) -> None:
    """Prevents a command that was copied from another experiment, or that a shell splits."""
    experiment = EXPERIMENTS[name]
    words = shlex.split(" ".join(experiment.command).replace("\\\n", ""))
    if "--arms" in words:
        arms = words[words.index("--arms") + 1].split(",")
        assert set(arms) == set(experiments[name].rows["arm"])
    if "--seeds" in words:
        seeds = [int(seed) for seed in words[words.index("--seeds") + 1].split(",")]
        assert seeds == experiments[name].seeds


def test_hypervolume_of_added_runs_keeps_the_reference(
    experiments: Mapping[str, Evaluations],
) -> None:
    """Prevents runs that were added later from changing the areas of those before."""
    found = experiments["second-look"]
    alone = Evaluations(found.compared.assign(agent="agent_0"), found.compared)
    assert found.at_end("ppo-2x", "agent_0", "hypervolume") == alone.at_end(
        "ppo-2x", "agent_0", "hypervolume"
    )
    assert all(math.isfinite(area) for area in found.at_end("cory", "mean", "hypervolume").values())


def rows_of(name: str) -> list[Row]:
    """The rows of all tables of a page that are computed."""
    tables = [TABLES[match] for match in re.findall(r"<!-- table (\S+) -->", text_of(name))]
    return [row for table in tables if not isinstance(table, Copied) for row in table.rows]
