"""From records to tables and plots, on runs whose numbers were made up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cory.compare.results import COLUMNS, gather, load_results
from cory.compare.summary import (
    average_curves,
    frontier,
    reference_point,
    robustness,
    summarise,
    write_summary,
    write_tables,
)
from tests.compare.made_up import comparison, measures, planned, rising, write_runs


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    runs = planned(tmp_path)
    write_runs(runs)
    return gather(runs, tmp_path)


def row(summary: pd.DataFrame, **place: Any) -> dict[str, Any]:
    chosen = summary
    for name, value in place.items():
        chosen = chosen[chosen[name] == value]
    assert len(chosen) == 1
    return {str(name): value for name, value in chosen.iloc[0].to_dict().items()}


def test_the_table_is_tidy(table: pd.DataFrame, tmp_path: Path) -> None:
    """Prevents rows that are missing, and numbers of one agent under another's name."""
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS
    assert len(table) == 2 * (1 + 2) * 3  # seeds × agents × evaluations
    last = row(table, arm="cory", seed=1, agent="agent_1", step=4)
    assert last["task_reward"] == pytest.approx(0.2 + 0.2 + 0.01 - 0.02)
    assert (last["total_samples"], last["total_tokens"], last["total_seconds"]) == (80, 800, 8)
    assert (tmp_path / last["run"] / "metrics.jsonl").is_file()
    first = row(table, arm="ppo", seed=0, agent="agent_0", step=0)
    assert (first["total_samples"], first["collapsed"]) == (0, False)


def test_the_table_is_read_as_it_was_written(table: pd.DataFrame, tmp_path: Path) -> None:
    """Prevents a parquet file and a CSV file that disagree."""
    with pytest.raises(ValueError, match=r"has no results\.parquet"):
        load_results(tmp_path)
    write_summary(table, planned(tmp_path), "ppo", tmp_path)
    pd.testing.assert_frame_equal(load_results(tmp_path), table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "results.csv"), table)


def test_means_over_seeds_and_agents(table: pd.DataFrame) -> None:
    """Prevents agents from counting as seeds, which would make intervals too narrow."""
    summary = summarise(table, "ppo")
    first = row(summary, arm="cory", agent="agent_0")
    assert first["task_reward"] == pytest.approx(0.405)
    # Two seeds, .40 and .41: 12.706 · .00707 / √2.
    assert first["task_reward_interval"] == pytest.approx(0.0635, abs=1e-4)
    assert row(summary, arm="cory", agent="mean")["task_reward"] == pytest.approx(0.395)
    assert row(summary, arm="cory", agent="worst")["task_reward"] == pytest.approx(0.385)
    assert row(summary, arm="cory", agent="mean")["seeds"] == 2
    # reward − η · KL with η .05 and KL 2.
    assert first["combined_reward"] == pytest.approx(0.405 - 0.05 * 2)
    assert "task_reward_ci95" not in summary.columns


def test_differences_at_equal_iterations_samples_tokens_and_seconds(table: pd.DataFrame) -> None:
    """Prevents a team from being compared after twice the samples of a single agent."""
    mean = row(summarise(table, "ppo"), arm="cory", agent="mean")
    # At 4 iterations: .2 + .2 − .01 against .2 + .4, the same in both seeds.
    assert mean["task_reward_difference"] == pytest.approx(-0.21)
    assert mean["task_reward_difference_interval"] == pytest.approx(0, abs=1e-9)
    # PPO's 40 samples are the team's after 2 iterations: .2 + .1 − .01 against .2 + .4.
    for cost in ("samples", "tokens", "seconds"):
        assert mean[f"task_reward_difference_at_{cost}"] == pytest.approx(-0.31)
        assert mean[f"kl_difference_at_{cost}"] == pytest.approx(1 - 2)
    baseline = row(summarise(table, "ppo"), arm="ppo", agent="mean")
    assert math.isnan(baseline["task_reward_difference"])


def test_differences_are_taken_at_the_same_coefficient(tmp_path: Path) -> None:
    """Prevents a baseline that mixes the runs of several KL coefficients."""

    def by_coefficient(run: Any, agent: int, step: int) -> dict[str, float]:
        of_coefficient = 0.1 * step * (run.kl_coef if run.arm == "ppo" else 2 * run.kl_coef)
        return measures(0.2 + of_coefficient + 0.01 * run.seed, 0.5 * step)

    runs = planned(tmp_path, kl_coefs=[1.0, 3.0])
    write_runs(runs, by_coefficient)
    summary = summarise(gather(runs, tmp_path), "ppo")
    for kl_coef in (1.0, 3.0):
        mean = row(summary, arm="cory", agent="mean", kl_coef=kl_coef)
        assert mean["task_reward_difference"] == pytest.approx(0.4 * kl_coef)
        assert mean["task_reward_difference_at_samples"] == pytest.approx(0.0)


def test_a_baseline_with_more_samples_is_read_earlier(table: pd.DataFrame) -> None:
    """Prevents equal cost from holding only where the arm costs more than the baseline."""
    mean = row(summarise(table, "cory"), arm="ppo", agent="agent_0")
    assert mean["task_reward_difference_at_samples"] == pytest.approx(0.31)


def test_runs_that_were_cut_off_are_left_out(tmp_path: Path) -> None:
    """Prevents the reward of an early step from entering a mean of last steps."""
    runs = planned(tmp_path, seeds=[0, 1, 2])
    write_runs(runs)
    (cut_off,) = [run for run in runs if (run.arm, run.seed) == ("cory", 2)]
    write_runs([cut_off], last_step=2)
    table = gather(runs, tmp_path)
    mean = row(summarise(table, "ppo"), arm="cory", agent="mean")
    assert (mean["seeds"], mean["step"]) == (2, 4)
    assert mean["task_reward"] == pytest.approx(0.395)
    assert mean["task_reward_difference"] == pytest.approx(-0.21), "of two seeds, at iteration 4"
    counts = row(robustness(table, runs), arm="cory")
    assert (counts["runs"], counts["failed"], counts["collapsed"]) == (3, 1, 0)
    assert counts["survived_share"] == pytest.approx(2 / 3)


def test_a_merged_agent_is_no_member_of_the_team(table: pd.DataFrame) -> None:
    """Prevents the average of a team's weights from lifting the mean of its agents."""
    merged = table[(table["arm"] == "cory") & (table["agent"] == "agent_0")]
    merged = merged.assign(agent="merged", task_reward=9.0)
    with_merged = pd.concat([table, merged], ignore_index=True)
    summary = summarise(with_merged, "ppo")
    assert row(summary, arm="cory", agent="mean")["task_reward"] == pytest.approx(0.395)
    assert row(summary, arm="cory", agent="merged")["task_reward"] == pytest.approx(9.0)


def test_hypervolume_does_not_grow_with_the_number_of_agents(tmp_path: Path) -> None:
    """Prevents two equal agents from beating one, and a collapse from setting the scale."""

    def same(run: Any, agent: int, step: int) -> dict[str, float]:
        return measures(0.2 + 0.1 * step, 0.5 * step)

    runs = planned(tmp_path, kl_coefs=[0.1, 0.2])
    write_runs(runs, same)
    table = gather(runs, tmp_path)
    reward, kl = reference_point(table)
    assert (reward, kl) == (pytest.approx(0.2), pytest.approx(1.1 * 2))
    volumes = frontier(table, "ppo")
    # .4 · 2 / 2 + .4 · (2.2 − 2), for every arm and seed, over both KL coefficients.
    assert volumes["hypervolume"].tolist() == pytest.approx([0.48, 0.48])
    assert row(volumes, arm="cory")["hypervolume_difference"] == pytest.approx(0)
    collapsed = table.assign(task_reward=0.1, kl=90.0)[table["step"] == 4]
    assert reference_point(pd.concat([table, collapsed])) == (pytest.approx(0.2), kl)


def test_the_hypervolume_of_a_team_is_the_mean_of_its_agents(tmp_path: Path) -> None:
    """Prevents a team from having the hypervolume of its luckiest agent."""

    def apart(run: Any, agent: int, step: int) -> dict[str, float]:
        return measures(0.2 + (0.1 - 0.05 * agent) * step, 0.5 * step)

    runs = planned(tmp_path)
    write_runs(runs, apart)
    volumes = frontier(gather(runs, tmp_path), "ppo")
    # .4 · 2 / 2 + .4 · (2.2 − 2) for agent_0, half of it for agent_1.
    assert row(volumes, arm="ppo")["hypervolume"] == pytest.approx(0.48)
    assert row(volumes, arm="cory")["hypervolume"] == pytest.approx((0.48 + 0.24) / 2)


def test_the_hypervolume_of_a_merged_team_is_its_own(tmp_path: Path) -> None:
    """Prevents the average of a team's weights from lending its agents its frontier."""

    def same(run: Any, agent: int, step: int) -> dict[str, float]:
        return measures(0.2 + 0.1 * step, 0.5 * step)

    runs = planned(tmp_path)
    write_runs(runs, same)
    table = gather(runs, tmp_path)
    merged = table[(table["arm"] == "cory") & (table["agent"] == "agent_0")]
    merged = merged.assign(agent="merged", kl=merged["kl"] / 2)
    volumes = frontier(pd.concat([table, merged], ignore_index=True), "ppo")
    # Up to KL 1.1: triangles of height .4 and .2 at KL 1, and strips from there.
    volume = row(volumes, arm="cory", agent="merged")
    assert volume["hypervolume"] == pytest.approx(0.4 * 1 / 2 + 0.4 * 0.1)
    assert volume["hypervolume_difference"] == pytest.approx(0.24 - 0.12)
    for arm in ("ppo", "cory"):
        assert row(volumes, arm=arm, agent="mean")["hypervolume"] == pytest.approx(
            0.2 * 1 / 2 + 0.2 * 0.1
        )


@pytest.mark.parametrize(
    ("crossed", "has_collapsed"),
    [
        ({}, False),
        ({"distinct_2": 0.09}, True),
        ({"kl_per_token": 2.1}, True),
        ({"task_reward": 0.15}, True),
        ({"task_reward": 0.195}, False),
        ({"kl_per_token": math.nan}, True),
        ({"task_reward": math.nan}, True),
    ],
)
def test_each_sign_of_collapse_is_seen(
    crossed: dict[str, float], has_collapsed: bool, tmp_path: Path
) -> None:
    """Prevents a collapse that hides behind a fine reward, and an alarm over noise."""

    def measure(run: Any, agent: int, step: int) -> dict[str, float]:
        last = run.arm == "cory" and agent == 1 and step == 4
        return {**rising(run, 0, step), **(crossed if last else {})}

    runs = planned(tmp_path)
    write_runs(runs, measure)
    table = gather(runs, tmp_path)
    last = table[(table["step"] == 4) & (table["agent"] == "agent_1")]
    assert last["collapsed"].tolist() == [has_collapsed] * 2
    shares = robustness(table, runs).set_index("arm")["survived_share"]
    assert shares.to_dict() == {"ppo": 1.0, "cory": 0.0 if has_collapsed else 1.0}


def test_curves_are_averaged_at_every_evaluation(table: pd.DataFrame) -> None:
    """Prevents a curve whose end is not what the summary says, or that averages over agents."""
    curves = average_curves(table)
    summary = summarise(table, "ppo")
    for agent in ("agent_0", "agent_1", "mean", "worst"):
        end = row(curves, arm="cory", agent=agent, step=4)
        assert {name: row(summary, arm="cory", agent=agent)[name] for name in end} == end
    middle = row(curves, arm="cory", agent="agent_1", step=2)
    # .28 and .29 after 2 steps of .05 from .20, .02 behind.
    assert middle["task_reward"] == pytest.approx(0.285)
    assert middle["task_reward_interval"] == pytest.approx(0.0635, abs=1e-4)
    assert (middle["seeds"], middle["total_samples"], middle["total_tokens"]) == (2, 40, 400)


def test_the_final_reward_is_over_all_coefficients(tmp_path: Path) -> None:
    """Prevents a reward by learning rate that is one coefficient's, or a cut-off run's."""

    def measure(run: Any, agent: int, step: int) -> dict[str, float]:
        return measures(10 * run.kl_coef + run.seed + step - agent, 0.5 * step)

    runs = planned(tmp_path, kl_coefs=[0.1, 0.2])
    write_runs(runs, measure)
    (cut_off,) = [run for run in runs if (run.arm, run.kl_coef, run.seed) == ("ppo", 0.2, 1)]
    write_runs([cut_off], measure, last_step=2)
    volumes = frontier(gather(runs, tmp_path), "ppo")
    # ppo: 5, 6 and, without seed 1, 6; cory's agents are 1 apart: 4.5, 5.5, 5.5 and 6.5.
    assert row(volumes, arm="ppo")["final_reward"] == pytest.approx(17 / 3)
    assert row(volumes, arm="cory")["final_reward"] == pytest.approx(5.5)
    # std √(2/3), t 3.182 with 3 degrees of freedom, √4.
    half_width = row(volumes, arm="cory")["final_reward_interval"]
    assert half_width == pytest.approx(3.182 * math.sqrt(2 / 3) / 2, abs=1e-3)


def test_a_seed_without_a_number_leaves_no_mean(table: pd.DataFrame) -> None:
    """Prevents the mean of the seeds that came through from standing for all of them."""
    is_lost = (table["arm"] == "ppo") & (table["seed"] == 1) & (table["step"] == 4)
    summary = summarise(table.assign(kl=table["kl"].mask(is_lost)), "ppo")
    assert math.isnan(row(summary, arm="ppo", agent="mean")["kl"])
    cory = row(summary, arm="cory", agent="mean")
    assert cory["kl"] == pytest.approx(2.0)
    assert math.isnan(cory["kl_difference"])
    assert cory["task_reward_difference"] == pytest.approx(-0.21)


def test_everything_is_written(tmp_path: Path) -> None:
    """Prevents a matrix of hours that ends without a file."""
    changes: dict[str, Any] = {"learning_rates": [1e-4, 1e-3]}
    runs = planned(tmp_path, **changes)
    with pytest.raises(ValueError, match="nothing to compare"):
        write_tables(comparison(**changes), runs, tmp_path)
    write_runs(runs)
    write_tables(comparison(**changes), runs, tmp_path)
    tables = {path.stem: pd.read_csv(path) for path in tmp_path.glob("*.csv")}
    # 2 rates; agents with their mean and worst: 3 of ppo and 4 of cory; 3 evaluations.
    assert {name: len(table) for name, table in tables.items()} == {
        "results": 2 * 2 * 3 * 3,
        "curves": 2 * (3 + 4) * 3,
        "summary": 2 * (3 + 4),
        "frontier": 2 * 2,
        "robustness": 2 * 2,
    }
