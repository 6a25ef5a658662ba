"""`cory compare`: what a preset, a file and options make together, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cory.cli import main
from cory.cli.comparison import read_comparison
from cory.cli.comparison_tables import print_tables
from cory.compare.arms import STANDARD_ARMS, Times
from cory.compare.plan import Comparison
from cory.compare.presets import PRESETS
from cory.compare.summary import write_tables
from cory.report.results import read_results
from cory.tasks import task_defaults
from tests.compare.made_up import (
    comparison,
    measures,
    planned,
    rising,
    write_runs,
    write_two_currencies,
)

FILE = """\
title: Two ways to pay
task: pocket-arithmetic
base: {max_steps: 40, learning_rate: 3e-4}
arms:
  ppo:
  double: {num_agents: 1, batch_size: ×2}
  weighted: {reward_weights: [2.0]}
allow: [reward_weights]
baseline: double
seeds: [4, 5]
kl_coefs: [1e-2, 0.1]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(FILE)
    return path


def read(given: dict[str, Any] | None = None, **options: Any) -> Comparison:
    names = ("config", "preset", "arms", "baseline", "seeds", "kl_coefs", "learning_rates")
    return read_comparison(given or {}, {**dict.fromkeys(names), **options})


def show(directory: Path) -> None:
    """Print what is in the files of a comparison of made-up runs."""
    (directory / "comparison.yaml").write_text("baseline: ppo\n")
    print_tables(read_results(directory))


def test_a_file_says_all(file: Path) -> None:
    """Prevents numbers that YAML reads as texts, multiples and named arms from being lost."""
    plan = read(config=str(file))
    assert plan.base_config.max_steps == 40
    assert plan.base_config.learning_rate == 3e-4
    assert plan.arms["ppo"] == STANDARD_ARMS["ppo"]
    assert plan.arms["double"] == {"num_agents": 1, "batch_size": Times(2)}
    assert plan.arm_config("weighted").reward_weights == [2.0]
    assert (plan.baseline_arm, plan.title) == ("double", "Two ways to pay")
    assert plan.axis("kl_coef") == (0.01, 0.1)


def test_options_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    """Prevents an option that is given and ignored."""
    (tmp_path / "more.yaml").write_text("preset: pocket\nseeds: [7]\nbase: {max_steps: 20}\n")
    config = str(tmp_path / "more.yaml")
    plan = read(config=config)
    assert list(plan.arms) == PRESETS["pocket"]["arms"]
    assert list(plan.seeds) == [7]
    assert plan.base_config.max_steps == 20
    assert plan.base_config.batch_size == task_defaults("pocket-arithmetic")["batch_size"]
    plan = read({"max_steps": 30}, config=config, seeds="1,2", arms="cory,cory-3,ppo")
    assert list(plan.arms) == ["cory", "cory-3", "ppo"]
    assert list(plan.seeds) == [1, 2]
    assert plan.base_config.max_steps == 30
    plan = read({"task": "pocket-reviews"}, preset="pocket", learning_rates="1e-4,1e-3")
    assert plan.base_config.model_name_or_path == "pocket-reviews-lm"
    assert plan.axis("learning_rate") == (1e-4, 1e-3)


def test_arms_of_the_file_can_be_chosen_among(file: Path) -> None:
    """Prevents `--arms` from knowing standard arms only."""
    plan = read(config=str(file), arms="weighted,double")
    assert list(plan.arms) == ["weighted", "double"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to compare: name arms"),
        (["--preset", "poket"], "no preset 'poket': did you mean pocket?"),
        (["--arms", "ppo,corey"], "no arm 'corey': did you mean cory?"),
        (["--arms", "ppo,cory", "--seeds", "1,two"], "seeds=['1', 'two'] must be a list"),
        (["--arms", "ppo,cory", "--seed", "1"], "the base sets seed, but every arm runs"),
        (["--arms", "ppo,cory", "--resume"], "a comparison always goes on"),
        (["--arms", "ppo,cory", "--workers", "0"], "--workers 0 must lie between 1 and 1000"),
        (["--arms", "ppo,cory", "--num_agents", "3"], "so does every arm"),
        (["--preset", "pocket", "--arm", "ppo"], "unknown option --arm: did you mean arms?"),
        (["--config", "absent.yaml"], "--config absent.yaml: no such file"),
    ],
)
def test_mistakes_get_one_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a traceback, or hours of runs, for one wrong word."""
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("allow: [reward_weights]", "", "'weighted' changes reward_weights"),
        ("title:", "titel:", "unknown key 'titel': did you mean title?"),
        ("max_steps: 40", "max_step: 40", "unknown key 'max_step': did you mean max_steps?"),
        ("×2}", "many}", "arm 'double': batch_size: 'many' is not a whole number"),
        ("{num_agents: 1, batch_size: ×2}", "3", "arm 'double' must hold `setting: value`"),
        ("title:", "collapse: {}\ntitle:", "collapse is no longer a key: the thresholds"),
        ("seeds: [4, 5]", "seeds: [many]", "seeds=['many'] must be a list of whole numbers"),
        ("seeds: [4, 5]", "seeds: [1.5]", "seeds=[1.5] must be a list of whole numbers"),
        ("seeds: [4, 5]", "seeds: [true]", "seeds=[True] must be a list of whole numbers"),
        ("title:", "title: 2026-11-29 #", "title=datetime.date(2026, 11, 29) must be a text"),
        ("base: {max_steps: 40, learning_rate: 3e-4}", "base: 3", "base must hold"),
        ("allow: [reward_weights]", "allow: [3]", "allow must be a list of settings"),
    ],
)
def test_mistakes_in_a_file_are_named(old: str, new: str, message: str, file: Path) -> None:
    """Prevents a misspelt line from being ignored."""
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    with pytest.raises(ValueError, match=r".+") as caught:
        read(config=str(file))
    assert message in str(caught.value)


def test_help_names_arms_and_presets(capsys: pytest.CaptureFixture) -> None:
    """Prevents names that can only be found in the source."""
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in (*STANDARD_ARMS, *PRESETS))


def test_tables_say_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents results that are right in the file and wrong on the screen."""
    runs = planned(tmp_path, seeds=[0, 1, 2])
    write_runs(runs)
    write_tables(comparison(seeds=[0, 1, 2]), runs, tmp_path)
    show(tmp_path)
    results, differences, frontier = capsys.readouterr().out.split("\n\n")[:3]
    cells = {line.split()[0]: line for line in results.splitlines() if line.strip()}
    # .40, .41 and .42: 4.303 · .01 / √3.
    assert "0.410 ± 0.025   0.390 ± 0.025   2.000 ± 0.000        80         8" in cells["cory"]
    assert "0.610 ± 0.025               –" in cells["ppo"]
    assert "at equal …" in differences
    assert "-0.210 ± 0.000   -0.310 ± 0.000   -0.310 ± 0.000   -0.310 ± 0.000" in differences
    assert "above reward 0.200 and below KL 2.200" in " ".join(frontier.split())


def test_a_merged_team_has_a_line_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents the frontier of a team's average from being shown as its agents', or not at all."""
    runs = planned(tmp_path, seeds=[0, 1, 2])
    write_runs(runs)
    write_tables(comparison(seeds=[0, 1, 2]), runs, tmp_path)
    for name, changes in {"summary": {}, "frontier": {"hypervolume": 7.5}}.items():
        table = pd.read_csv(tmp_path / f"{name}.csv")
        of_team = table[(table["arm"] == "cory") & (table["agent"] == "mean")]
        merged = of_team.assign(agent="merged", **changes)
        pd.concat([table, merged]).to_csv(tmp_path / f"{name}.csv", index=False)
    show(tmp_path)
    _, frontier = capsys.readouterr().out.split("reward against KL")
    lines = [line.split() for line in frontier.splitlines() if line.startswith("cory")]
    assert [line[:2] == ["cory,", "merged"] for line in lines] == [False, True]
    assert ["7.500" in line for line in lines] == [False, True]


def test_one_seed_is_shown_without_interval(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents ± nan, or ± 0, which would look like certainty."""
    runs = planned(tmp_path, seeds=[0])
    write_runs(runs)
    write_tables(comparison(seeds=[0]), runs, tmp_path)
    show(tmp_path)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cory")]
    assert rows
    assert not any("±" in row or "nan" in row for row in rows)


def shown_after(
    directory: Path, capsys: pytest.CaptureFixture, seeds: list[int], **cut_off: list[int]
) -> str:
    """What is printed of a comparison in which these seeds of these arms stopped at iteration 2."""
    runs = planned(directory, seeds=seeds)
    write_runs(runs)
    write_runs([run for run in runs if run.seed in cut_off.get(run.arm, ())], last_step=2)
    write_tables(comparison(seeds=seeds), runs, directory)
    show(directory)
    return " ".join(capsys.readouterr().out.split())


def test_each_table_says_what_it_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents a title with the largest step and number of seeds of all arms."""
    text = shown_after(tmp_path / "all", capsys, [0, 1, 2])
    assert "held out, after 4 iterations arm agent_0" in text
    assert "± half a 95% interval over 3 seeds; KL" in text
    assert "paired by seed (3 pairs); bold" in text
    assert "of the runs that came to their end (3 seeds)" in text
    text = shown_after(tmp_path / "one", capsys, [0])
    assert "one seed, so no intervals; KL" in text
    assert "paired by seed (1 pair); bold" in text
    assert "came to their end (1 seed)" in text
    text = shown_after(tmp_path / "fewer", capsys, [0, 1, 2], ppo=[2])
    assert "held out, after 4 iterations arm seeds agent_0" in text
    assert "interval over the seeds; KL" in text
    assert "paired by seed (2 pairs); bold" in text
    assert "KL less ppo's seeds hypervolume" in text
    text = shown_after(tmp_path / "shorter", capsys, [0, 1], ppo=[0, 1])
    assert "held out arm iterations agent_0" in text
    assert "less that of ppo, at equal … compared arm after iterations" in text
    assert "cory 2 -0.110 ± -0.158 ±" in text


def test_arms_that_are_paid_differently_are_shown_by_each_function(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a difference between two currencies from being shown."""
    write_two_currencies(tmp_path)
    show(tmp_path)
    text = " ".join(capsys.readouterr().out.split())
    assert "each agent alone, held out, each arm by its own reward, after 4" in text
    for name in ("brief", "kind"):
        assert f"{name} less that of ppo, at equal …" in text
        assert f"{name} against KL" in text
        assert f"above {name} 0.000 and below KL 2.200" in text
    assert "held out, by each reward function arm brief kind ─" in text
    assert "reward less that of" not in text
    assert "reward against KL" not in text


def test_who_collapsed_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents a table of means from hiding that half the runs were lost."""

    def measure(run: Any, agent: int, step: int) -> dict[str, float]:
        is_lost = run.arm == "ppo" and run.learning_rate == 0.1 and run.seed and step == 4
        return measures(3.0, 99.0) if is_lost else rising(run, agent, step)

    changes: dict[str, Any] = {"learning_rates": [0.01, 0.1]}
    runs = planned(tmp_path, **changes)
    write_runs(runs, measure)
    write_tables(comparison(**changes), runs, tmp_path)
    show(tmp_path)
    _, table = capsys.readouterr().out.split("runs that came through")
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert "ppo 0.01 2 of 2 0 0" in lines
    assert "ppo 0.1 1 of 2 1 0" in lines
    assert pd.read_csv(tmp_path / "robustness.csv")["collapsed"].sum() == 1
