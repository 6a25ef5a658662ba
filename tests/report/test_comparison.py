"""What a comparison's page says: worked out by hand on a made table, and on real tiny runs."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cory.report.comparison import describe_comparison
from cory.report.contents import Contents, Table
from cory.report.figures import ALL, COLOURS, LINES, Curve, Figure, default_choice, is_chosen
from cory.report.results import FILES, read_results
from tests.compare.made_up import write_two_currencies
from tests.report.comparisons import describe, made

MEAN_AGENT = "agents' mean"


def row(arm: str, seed: int, agent: str, step: int, reward: float, **more: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "kl_coef": 0.1,
        "learning_rate": 1e-3,
        "seed": seed,
        "agent": agent,
        "step": step,
        "run": f"runs/{arm}/{seed}",
        "total_samples": 100.0 * step,
        "total_tokens": 1000.0 * step,
        "total_seconds": 10.0 * step,
        "collapsed": False,
        "task_reward": reward,
        "kl": 2 * reward,
        **more,
    }


TWO_ARMS = [
    row("ppo", 0, "agent_0", 0, 0.0),
    row("ppo", 0, "agent_0", 2, 1.0),
    row("ppo", 1, "agent_0", 0, 0.2),
    row("ppo", 1, "agent_0", 2, 3.0),
    row("cory", 0, "agent_0", 2, 2.0),
    row("cory", 0, "agent_1", 2, 3.0, collapsed=True),
    row("cory", 0, "merged", 2, 9.0, kl=math.nan),
    row("cory", 1, "agent_0", 2, 4.0),
    row("cory", 1, "agent_1", 2, 5.0),
]


def figure(contents: Contents, key: str) -> Figure:
    (found,) = [f for section in contents.sections for f in section.figures if f.key == key]
    return found


def curves(found: Figure, label: str = "task reward", **choice: str) -> dict[str, Curve]:
    (panel,) = [panel for panel in found.panels if panel.label.startswith(label)]
    chosen = {**default_choice(found), **choice}
    return {curve.name: curve for curve in panel.curves if is_chosen(curve, chosen)}


def texts(table: Table) -> dict[tuple[str, str], dict[str, str]]:
    titles = [column.title for column in table.columns]
    return {
        (cells[0].text, cells[1].text): dict(
            zip(titles, [cell.text for cell in cells], strict=True)
        )
        for cells in table.rows
    }


def test_means_and_bands_over_seeds(tmp_path: Path) -> None:
    """Prevents averages over agents and seeds at once, whose intervals would be too narrow."""
    drawn = curves(figure(describe_comparison(made(tmp_path, TWO_ARMS)), "curves"))
    # Seeds of ppo: .0 and .2, then 1 and 3: s = √2, half width 12.7062 · √2 / √2.
    assert drawn["ppo"].y == pytest.approx([0.1, 2.0])
    assert drawn["ppo"].upper == pytest.approx([0.1 + 1.27062, 2 + 12.7062])
    assert drawn["ppo"].x["step"] == [0, 2]
    assert drawn["ppo"].x["total_samples"] == [0, 200]
    # The mean of two agents is 2.5 and 4.5; what was merged from them stays out.
    assert drawn["cory"].y == pytest.approx([3.5])
    assert drawn["cory"].lower == pytest.approx([3.5 - 12.7062])


def test_the_reader_chooses_the_model(tmp_path: Path) -> None:
    """Prevents an option without curves, or a merged model that cannot be found."""
    found = figure(describe_comparison(made(tmp_path, TWO_ARMS)), "curves")
    (switch,) = found.switches
    assert list(switch.options) == [MEAN_AGENT, "agent_0", "agent_1", "merged"]
    assert list(curves(found, agent="agent_1")) == ["cory"]
    merged = curves(found, agent="merged")["cory"]
    assert (merged.y, merged.lower) == ([9.0], None)
    assert curves(found, "KL", agent="merged") == {}


def test_the_summary_pairs_seeds(tmp_path: Path) -> None:
    """Prevents differences of means, whose intervals ignore that the seeds are the same."""
    contents = describe_comparison(made(tmp_path, TWO_ARMS))
    reward_table = texts(contents.sections[0].tables[0])
    mean = reward_table["cory", MEAN_AGENT]
    # cory − ppo by seed: 2.5 − 1 = 1.5 and 4.5 − 3 = 1.5.
    assert mean["reward − ppo"] == "+1.500 ± 0.000"
    assert mean["KL (nats) − ppo"] == "+3.000 ± 0.000"
    assert mean["not collapsed"] == "1 of 2"
    assert reward_table["cory", "agent_1"]["reward − ppo"] == "+2.000 ± 0.000"
    assert reward_table["ppo", "agent_0"]["reward"] == "2.000 ± 12.706"
    assert reward_table["ppo", "agent_0"]["reward − ppo"] == "–"
    assert reward_table["cory", "merged"]["seeds"] == "1"
    assert reward_table["cory", "merged"]["KL (nats)"] == "–"
    # The mean of a single agent would say the same twice.
    assert ("ppo", MEAN_AGENT) not in reward_table


def test_another_baseline_can_be_named(tmp_path: Path) -> None:
    """Prevents differences to whichever arm happens to be first."""
    contents = describe_comparison(made(tmp_path, TWO_ARMS, baseline="cory"))
    assert texts(contents.sections[0].tables[0])["ppo", "agent_0"]["reward − cory"].startswith("−")


def test_more_arms_than_colours_can_be_told_apart(tmp_path: Path) -> None:
    """Prevents two arms that look the same in every figure."""
    arms = [f"arm-{number}" for number in range(2 * len(COLOURS))]
    rows = [row(arm, 0, "agent_0", 1, 1.0, kl_coef=eta) for arm in arms for eta in (0.1, 0.2)]
    found = describe_comparison(made(tmp_path, rows, baseline="arm-0"))
    for key, lines_each in [("curves", 2), ("frontier", 2), ("frontier_over_coefficients", 1)]:
        shown = figure(found, key).panels[0].curves
        looks = {(curve.colour % len(COLOURS), curve.line % len(LINES)) for curve in shown}
        assert len(looks) == len(arms) * lines_each


def test_several_coefficients_and_rates(tmp_path: Path) -> None:
    """Prevents curves of different η on top of each other, and a frontier of one point."""
    rows = [
        {
            **row(arm, seed, "agent_0", step, step * coefficient + seed),
            "kl_coef": coefficient,
            "learning_rate": rate,
            "run": f"{arm}{coefficient}{rate}{seed}",
            "collapsed": rate > 0.01 and seed == 0,
        }
        for arm in ("ppo", "cory")
        for coefficient in (0.1, 0.3)
        for rate in (1e-3, 1e-1)
        for seed in (0, 1)
        for step in (0, 4)
    ]
    contents = describe_comparison(made(tmp_path, rows))
    found = figure(contents, "curves")
    assert [switch.key for switch in found.switches] == ["agent", "kl_coef", "learning_rate"]
    assert curves(found, kl_coef="0.3")["ppo"].y == pytest.approx([0.5, 0.5 + 4 * 0.3])
    everything = {**default_choice(found), "kl_coef": ALL, "learning_rate": ALL}
    assert sum(is_chosen(curve, everything) for curve in found.panels[0].curves) == 8
    frontier = curves(figure(contents, "frontier_over_coefficients"))["cory"]
    assert frontier.y == pytest.approx([0.5 + 4 * 0.1, 0.5 + 4 * 0.3])
    alive = curves(figure(contents, "robustness"), "share")["ppo"]
    assert (alive.x["learning_rate"], alive.y) == ([1e-3, 1e-1], [1.0, 0.5])
    summary = contents.sections[0].tables[0]
    assert [column.title for column in summary.columns][:5] == ["arm", "model", "η", "lr", "seeds"]


def test_the_frontier_has_its_hypervolumes(tmp_path: Path) -> None:
    """Prevents a frontier whose area can only be read on the console that made it."""
    directory = made(tmp_path, TWO_ARMS)
    (directory / "frontier.csv").write_text(
        "reward,arm,learning_rate,agent,seeds,hypervolume,hypervolume_interval,reference_reward,"
        "reference_kl,hypervolume_difference,hypervolume_difference_interval,final_reward\n"
        "task_reward,ppo,0.1,mean,2,4.5525,0.7677,-0.334,4.832,,,1.0\n"
        "task_reward,cory,0.1,mean,1,5.015,,-0.334,4.832,0.4625,,1.0\n"
        "task_reward,cory,0.1,merged,1,3.015,,-0.334,4.832,-1.5375,,\n"
    )
    (table,) = describe_comparison(directory).sections[2].tables
    assert "above reward −0.334 and below KL 4.832" in table.caption
    assert [column.title for column in table.columns][1:] == [
        "seeds",
        "hypervolume",
        "hypervolume − ppo",
    ]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["ppo", "2", "4.553 ± 0.768", "–"],
        ["cory", "1", "5.015", "+0.463"],
        ["cory, merged", "1", "3.015", "−1.538"],
    ]


def test_real_runs_are_gathered(comparison: Path) -> None:
    """Prevents a page that only understands tables made for its tests."""
    contents = describe_comparison(comparison)
    assert [section.key for section in contents.sections] == [
        "summary",
        "curves",
        "frontier",
        "robustness",
    ]
    assert contents.facts["runs"] == "8"
    assert len(contents.runs) == 8
    assert all((directory / "config.yaml").is_file() for directory in contents.runs.values())
    drawn = curves(figure(contents, "curves"))
    # A team of two has twice the answers of one at the same iteration.
    assert drawn["ppo"].x["total_samples"] == [0, 8, 16]
    assert drawn["cory"].x["total_samples"] == [0, 16, 32]


def test_the_final_reward_is_that_of_all_coefficients(tmp_path: Path) -> None:
    """Prevents a figure over learning rates that shows one coefficient, or an early evaluation."""
    rows = [
        {
            **row("ppo", 0, "agent_0", step, reward + step),
            "kl_coef": coefficient,
            "run": str(reward),
        }
        | {"learning_rate": rate}
        for rate, coefficient, reward in ((1e-3, 0.1, 1.0), (1e-3, 0.3, 3.0), (1e-1, 0.1, 9.0))
        for step in (0, 4)
    ]
    drawn = curves(figure(describe_comparison(made(tmp_path, rows)), "robustness"))["ppo"]
    assert (drawn.x["learning_rate"], drawn.y) == ([1e-3, 1e-1], [6.0, 13.0])
    assert drawn.lower is None, "one value has no interval"


def test_a_run_that_was_cut_off_is_in_no_mean(tmp_path: Path) -> None:
    """Prevents a page that counts a run which the table on the console leaves out."""
    rows = [*TWO_ARMS, row("ppo", 2, "agent_0", 0, 0.0)]
    contents = describe_comparison(made(tmp_path, rows))
    cells = texts(contents.sections[0].tables[0])["ppo", "agent_0"]
    assert (cells["seeds"], cells["not collapsed"]) == ("2", "2 of 2")
    assert cells["reward"] == "2.000 ± 12.706"
    assert contents.facts["runs"] == "5"


def test_numbers_say_what_they_rest_on(tmp_path: Path) -> None:
    """Prevents three seeds beside a difference of two, and iteration 2 beside iteration 4."""
    rows = [
        row(*place, 0.5) for place in product(["ppo", "cory"], [0, 1, 2], ["agent_0"], [0, 2, 4])
    ]
    whole = describe_comparison(made(tmp_path, rows)).sections[0].tables[0]
    assert whole.caption.endswith("their differences to ppo, after 4 iterations")
    titles = [column.title for column in whole.columns]
    assert not {"pairs", "iterations", "compared after"} & set(titles)
    fewer = [row for row in rows if (row["arm"], row["seed"], row["step"]) != ("ppo", 1, 4)]
    cells = texts(describe_comparison(made(tmp_path, fewer)).sections[0].tables[0])
    assert (cells["cory", "agent_0"]["seeds"], cells["cory", "agent_0"]["pairs"]) == ("3", "2")
    assert (cells["ppo", "agent_0"]["seeds"], cells["ppo", "agent_0"]["pairs"]) == ("2", "–")
    shorter = [row for row in rows if (row["arm"], row["step"]) != ("ppo", 4)]
    contents = describe_comparison(made(tmp_path, shorter))
    cells = texts(contents.sections[0].tables[0])
    assert cells["ppo", "agent_0"]["iterations"] == "2"
    assert cells["cory", "agent_0"]["compared after"] == "2"
    (volumes,) = contents.sections[2].tables
    assert [cell.text for cell in volumes.rows[0]] == ["ppo", "0", "–", "–", "–"]


def test_arms_that_are_paid_differently(tmp_path: Path) -> None:
    """Prevents a page whose only difference is one between two currencies."""
    write_two_currencies(tmp_path)
    describe(tmp_path)
    contents = describe_comparison(tmp_path)
    titles = [column.title for column in contents.sections[0].tables[0].columns]
    assert titles[3:9] == [
        "brief",
        "kind",
        "KL (nats)",
        "brief − ppo",
        "kind − ppo",
        "KL (nats) − ppo",
    ]
    assert "reward" not in titles
    assert "each reward function is compared alone" in contents.sections[0].note
    assert [panel.label for panel in figure(contents, "curves").panels][:2] == [
        "brief per answer",
        "kind per answer",
    ]
    assert curves(figure(contents, "curves"), "kind")["other"].y == pytest.approx([0.0, 0.4, 0.8])
    labels = [panel.label for panel in figure(contents, "frontier").panels]
    assert labels == ["brief per answer", "kind per answer"]
    captions = [table.caption for table in contents.sections[2].tables]
    assert ["above brief" in captions[0], "above kind" in captions[1]] == [True, True]


def test_an_arm_may_have_any_name(tmp_path: Path) -> None:
    """Prevents names that a CSV reader takes for numbers, or for nothing."""
    names = ["null", "NA", "1", "1.0", "ppo"]
    results = read_results(made(tmp_path, [row(name, 0, "agent_0", 1, 1.0) for name in names]))
    assert results.arms == names


@pytest.mark.parametrize("name", FILES)
def test_a_comparison_of_another_layout_is_refused(tmp_path: Path, name: str) -> None:
    """Prevents a KeyError for a comparison that an older version, or nobody, has summed up."""
    path = made(tmp_path, TWO_ARMS) / f"{name}.csv"
    table = pd.read_csv(path)
    for broken, message in (
        (table.iloc[:0], "has no rows"),
        (table.drop(columns="arm"), "has no column 'arm'"),
        (None, "is missing"),
    ):
        path.unlink()
        if broken is not None:
            broken.to_csv(path, index=False)
        with pytest.raises(ValueError, match=rf"{name}\.csv {message}"):
            describe_comparison(tmp_path)
        if message != "has no rows":
            with pytest.raises(ValueError, match=r"run its `cory compare` again"):
                describe_comparison(tmp_path)
        table.to_csv(path, index=False)
    describe_comparison(tmp_path)


def test_an_unfinished_comparison_is_refused(tmp_path: Path) -> None:
    """Prevents a FileNotFoundError that does not say what to do."""
    describe(tmp_path)
    with pytest.raises(ValueError, match="comparison is not finished"):
        describe_comparison(tmp_path)
    made(tmp_path, TWO_ARMS)
    (tmp_path / "summary.csv").write_bytes(b"arm,kl_coef\n\xff,\xff\n")
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        describe_comparison(tmp_path)
    (tmp_path / "comparison.yaml").write_text("task: pocket-reviews\n")
    with pytest.raises(ValueError, match="names no baseline"):
        describe_comparison(tmp_path)
