"""From records to tables and plots, on runs whose numbers were made up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cory.compare.frontier import frontier, reference_point
from cory.compare.plan import PlannedRun
from cory.compare.results import COLUMNS, gather, load_results
from cory.compare.summary import (
    average_curves,
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


def stop(runs: list[PlannedRun], arm: str, seed: int, at: int, measure: Any = rising) -> None:
    """Cut a run off."""
    (run,) = [run for run in runs if (run.arm, run.seed) == (arm, seed)]
    write_runs([run], measure, last_step=at)


TWINS: dict[str, Any] = {"ppo": {"num_agents": 1}, "twin": {"num_agents": 1, "vf_coef": 0.1001}}


@pytest.mark.parametrize("seeds", [[0], [0, 1], [0, 1, 2]])
def test_a_run_that_was_cut_off_has_no_hypervolume(seeds: list[int], tmp_path: Path) -> None:
    """Prevents two equal arms from differing because one run had no time to learn."""

    def same(run: Any, agent: int, step: int) -> dict[str, float]:
        return measures(0.2 + 0.1 * step, 0.5 * step)

    runs = planned(tmp_path, arms=TWINS, seeds=seeds)
    write_runs(runs, same)
    stop(runs, "twin", seeds[-1], at=2, measure=same)
    volumes = frontier(gather(runs, tmp_path), "ppo")
    ppo, twin = (row(volumes, arm=arm) for arm in TWINS)
    assert (ppo["seeds"], twin["seeds"], twin["pairs"]) == (len(seeds), *[len(seeds) - 1] * 2)
    assert twin["reference_kl"] == pytest.approx(1.1 * 2)
    if len(seeds) == 1:
        assert math.isnan(twin["hypervolume"])
        assert math.isnan(twin["hypervolume_difference"])
    else:
        assert twin["hypervolume_difference"] == pytest.approx(0)


def test_a_run_beyond_the_others_does_not_set_the_scale_when_cut_off(tmp_path: Path) -> None:
    """Prevents a run without a result from moving the point that all areas start from."""

    def measure(run: Any, agent: int, step: int) -> dict[str, float]:
        return measures(9.0 if run.seed == 2 and step else 0.2 + 0.1 * step, 0.5 * step)

    runs = planned(tmp_path, seeds=[0, 1, 2])
    write_runs(runs, measure)
    before = frontier(gather(runs[:4], tmp_path), "ppo")
    for run in runs[4:]:
        write_runs([run], measure, last_step=2)
    pd.testing.assert_frame_equal(frontier(gather(runs, tmp_path), "ppo"), before)


def test_an_interrupted_comparison_has_tables_without_areas(tmp_path: Path) -> None:
    """Prevents areas of runs that have just begun, and a crash where none has ended."""
    runs = planned(tmp_path)
    write_runs(runs, last_step=2)
    write_tables(comparison(), runs, tmp_path)
    summary, volumes = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("summary", "frontier"))
    assert set(summary["step"]) == {2}
    assert volumes["arm"].tolist() == ["ppo", "cory"]
    assert volumes["hypervolume"].isna().all()
    assert volumes["seeds"].tolist() == [0, 0]


def test_a_curve_is_of_the_same_seeds_everywhere(tmp_path: Path) -> None:
    """Prevents a curve that jumps where a run was cut off."""
    runs = planned(tmp_path, seeds=[0, 1, 2])
    write_runs(runs)
    stop(runs, "ppo", 2, at=2)
    curves = average_curves(gather(runs, tmp_path))
    assert set(curves[curves["arm"] == "ppo"]["seeds"]) == {2}
    assert set(curves[curves["arm"] == "cory"]["seeds"]) == {3}


def test_a_difference_says_how_many_pairs_it_is_of(tmp_path: Path) -> None:
    """Prevents three seeds beside a difference that is of two."""
    runs = planned(tmp_path, seeds=[0, 1, 2])
    write_runs(runs)
    stop(runs, "ppo", 1, at=2)
    mean = row(summarise(gather(runs, tmp_path), "ppo"), arm="cory", agent="mean")
    assert (mean["seeds"], mean["pairs"], mean["difference_step"]) == (3, 2, 4)
    for seed in (0, 2):
        stop(runs, "ppo", seed, at=2)
    mean = row(summarise(gather(runs, tmp_path), "ppo"), arm="cory", agent="mean")
    assert (mean["step"], mean["pairs"], mean["difference_step"]) == (4, 3, 2)
    # At 2 iterations: .2 + .1 − .01 against .2 + .2.
    assert mean["task_reward_difference"] == pytest.approx(-0.11)


@pytest.mark.parametrize(
    "changes", [{"normalize_rewards": True}, {"score_clip": 1.0}, {"kl_controller": "adaptive"}]
)
def test_there_is_no_combined_reward_where_another_one_is_maximised(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """Prevents η, the price of KL in scaled rewards, from being taken off unscaled ones."""
    base = {"max_steps": 4, "eval_steps": 2, "batch_size": 10, "role_exchange_period": 2}
    runs = planned(tmp_path, base=base | changes)
    write_runs(runs)
    mean = row(summarise(gather(runs, tmp_path), "ppo"), arm="cory", agent="mean")
    assert math.isnan(mean["combined_reward"])
    assert math.isnan(mean["combined_reward_difference"])
    assert mean["task_reward_difference"] == pytest.approx(-0.21)


def paid(*names: str, weights: list[float] | None = None) -> dict[str, Any]:
    return {"num_agents": 1, "reward_funcs": list(names), "reward_weights": weights}


def of_functions(run: PlannedRun, agent: int, step: int) -> dict[str, float]:
    """Every function that a run measures pays a tenth of its file's place a step."""
    paid_for = {"a.py:f": 1, "b.py:f": 2, "b.py:g": 3}
    found: dict[str, float] = {}
    for source in run.args.reward_funcs or ():
        name = f"reward/{source[-1]}"
        name = f"{name}_2" if name in found else name
        found[name] = 0.1 * paid_for[source] * step
    return measures(0.1 * step + 5 * (run.arm == "cory"), 0.5 * step, **found)


ALLOWED = ["reward_funcs", "reward_weights"]


def test_arms_that_are_paid_differently_are_compared_by_each_function(tmp_path: Path) -> None:
    """Prevents a difference between two currencies."""
    both = "a.py:f", "b.py:g"
    arms = {"ppo": paid(*both, weights=[1, 0]), "cory": paid(*both, weights=[0, 1])}
    runs = planned(tmp_path, arms=arms, allow=ALLOWED)
    write_runs(runs, of_functions)
    table = gather(runs, tmp_path)
    summary, volumes = summarise(table, "ppo"), frontier(table, "ppo")
    mean = row(summary, arm="cory", agent="mean")
    for measure, reward in {"reward/f": 0.4, "reward/g": 1.2}.items():
        assert mean[measure] == pytest.approx(reward)
        for cost in ("", "_at_samples", "_at_tokens", "_at_seconds"):
            assert mean[f"{measure}_difference{cost}"] == pytest.approx(0)
        volume = row(volumes, arm="cory", reward=measure)
        assert volume["final_reward"] == pytest.approx(reward)
        assert volume["hypervolume"] == pytest.approx(reward * 2 / 2 + reward * 0.2)
        assert volume["hypervolume_difference"] == pytest.approx(0)
    assert not [name for name in summary if name.startswith("task_reward_difference")]
    assert not [name for name in summary if name.startswith("combined_reward_difference")]
    assert set(volumes["reward"]) == {"reward/f", "reward/g"}


def test_functions_of_one_name_are_not_one_function(tmp_path: Path) -> None:
    """Prevents rewards of two files from being compared because the functions share a name."""
    arms = {"ppo": paid("a.py:f"), "cory": paid("b.py:f", "a.py:f")}
    runs = planned(tmp_path, arms=arms, allow=ALLOWED)
    write_runs(runs, of_functions)
    summary = summarise(gather(runs, tmp_path), "ppo")
    ppo, cory = (row(summary, arm=arm, agent="mean") for arm in arms)
    assert ppo["reward/a.py:f"] == cory["reward/a.py:f"] == pytest.approx(0.4)
    assert cory["reward/b.py:f"] == pytest.approx(0.8)
    assert math.isnan(ppo["reward/b.py:f"])
    assert math.isnan(cory["reward/b.py:f_difference"])
    assert cory["reward/a.py:f_difference"] == pytest.approx(0)


@pytest.mark.parametrize(
    ("first", "second", "are_alike"),
    [
        (paid("a.py:f"), paid("a.py:f", "b.py:g", weights=[1, 0]), True),
        (paid("a.py:f", "b.py:g"), paid("b.py:g", "a.py:f"), True),
        (paid("a.py:f"), paid("b.py:f"), False),
        (paid("a.py:f"), paid("a.py:f", weights=[2.0]), False),
        (paid("a.py:f", "b.py:g"), paid("a.py:f"), False),
    ],
)
def test_who_is_paid_alike(
    first: dict[str, Any], second: dict[str, Any], are_alike: bool, tmp_path: Path
) -> None:
    """Prevents a change of weights that goes unseen, and one of order that hides a comparison."""
    runs = planned(tmp_path, arms={"ppo": first, "cory": second}, allow=ALLOWED)
    write_runs(runs, of_functions)
    summary = summarise(gather(runs, tmp_path), "ppo")
    assert ("task_reward_difference" in summary) == are_alike


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eval/agent_0/kl": "low"}, "step 4, agent_0: 'kl' is 'low'; it must be a number"),
        ({"eval/agent_0/kl": [1]}, r"step 4, agent_0: 'kl' is \[1\]; it must be a number"),
        ({"eval/agent_7/kl": 1.0}, "step 4, agent_7: 'task_reward' is missing.*trains it again"),
        ({"step": 9}, "step 9: 'total_samples' is missing, which training writes there"),
        ({"step": -1}, "line 7, 'step' is -1; it must be a whole number from 0 .* remove the line"),
    ],
)
def test_a_damaged_evaluation_is_one_message(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """Prevents a KeyError after all runs are done, for one line that somebody changed."""
    runs = planned(tmp_path)
    write_runs(runs)
    path = runs[0].directory / "metrics.jsonl"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, json.dumps(json.loads(last) | change)]) + "\n")
    with pytest.raises(ValueError, match=message):
        gather(runs, tmp_path)


def test_numbers_that_no_axis_shows_are_unknown(tmp_path: Path) -> None:
    """Prevents an OverflowError, or infinite means, for an integer of 400 digits."""
    runs = planned(tmp_path)
    write_runs(runs)
    path = runs[0].directory / "metrics.jsonl"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, last.replace("2.0", f"1{'0' * 400}")]) + "\n")
    table = gather(runs, tmp_path)
    assert table.loc[table["kl"].isna(), ["step", "seed"]].to_numpy().tolist() == [[4, 0]]
