"""The matrix: which runs there are, what makes two runs one, and which plans are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cory.cli.comparison import read_comparison
from cory.compare.arms import STANDARD_ARMS, Times
from cory.compare.plan import Comparison, fingerprint, result_differences
from cory.compare.presets import PRESETS
from tests.compare.made_up import comparison


def test_the_matrix_is_complete_and_each_run_has_its_place() -> None:
    """Prevents combinations that are left out, or that share a directory."""
    runs = comparison(kl_coefs=[0.1, 0.2], learning_rates=[1e-4, 1e-3]).runs("out")
    places = {(run.arm, run.args.kl_coef, run.args.learning_rate, run.args.seed) for run in runs}
    assert len(runs) == len(places) == len({run.directory for run in runs}) == 16
    assert [run.seed for run in runs] == [0] * 8 + [1] * 8
    assert str(runs[0].directory).startswith("out/runs/ppo/kl0.1-lr0.0001-seed0-")


def test_arms_share_everything_but_what_they_name() -> None:
    """Prevents an arm that brings its own evaluation, schedule or data."""
    first, second = comparison(seeds=[3]).runs("out")
    assert set(result_differences(first.args.to_dict(), second.args)) == {"num_agents"}


def test_axes_come_from_the_task_unless_they_are_listed() -> None:
    """Prevents a comparison under other settings than the task's when nothing was said."""
    plan = comparison(base={"task": "imdb", "batch_size": 8})
    assert plan.axis("kl_coef") == (0.3,)
    assert plan.axis("learning_rate") == (1.41e-5,)
    assert plan.base_config.eval_steps == 10
    assert plan.base_config.batch_size == 8


def test_a_multiple_follows_its_axis() -> None:
    """Prevents an arm at a tenth of the rate that has the same rate in every cell."""
    arms = {"cory": {}, "slow": {"learning_rate": Times(0.1)}}
    plan = comparison(arms=arms, learning_rates=[1e-3, 1e-2], allow=["learning_rate"], seeds=[0])
    rates = [run.args.learning_rate for run in plan.runs("out") if run.arm == "slow"]
    assert rates == pytest.approx([1e-4, 1e-3])


def test_the_same_experiment_has_the_same_fingerprint(tmp_path: Path) -> None:
    """Prevents finished runs from being run again, and others from being taken for them."""
    rewards = tmp_path / "rewards.py"
    rewards.write_text("def f(completions, **columns): return [0.0] * len(completions)")
    (args,) = [
        run.args
        for run in comparison(base={"reward_funcs": [f"{rewards}:f"]}, seeds=[0]).runs("a")
        if run.arm == "ppo"
    ]
    first = fingerprint(args)
    assert fingerprint(args.replace(output_dir="b", log_samples_steps=3, save_steps=7)) == first
    for change in ({"seed": 4}, {"max_steps": 9}, {"kl_coef": 0.7}, {"num_eval_queries": 3}):
        assert fingerprint(args.replace(**change)) != first
    rewards.write_text("def f(completions, **columns): return [1.0] * len(completions)")
    assert fingerprint(args) != first, "an edited reward function is another experiment"


def test_a_run_made_before_a_setting_existed_is_still_that_run() -> None:
    """Prevents a new switch, off by default, from making all earlier runs worthless."""
    (run, _) = comparison(seeds=[0]).runs("out")
    saved = run.args.to_dict()
    assert result_differences(saved, run.args) == []
    del saved["merge_on_exchange"]
    assert result_differences(saved, run.args) == []
    saved["merge_on_exchange"] = 0.5
    assert result_differences(saved, run.args) == ["merge_on_exchange"]


def test_a_run_with_a_setting_that_is_gone_is_another_experiment() -> None:
    """Prevents a run under an old rule from being taken for one without it."""
    (run, _) = comparison(seeds=[0]).runs("out")
    saved = {**run.args.to_dict(), "use_score_scaling": True}
    assert result_differences(saved, run.args) == ["use_score_scaling"]


def read(**options: Any) -> Comparison:
    """The comparison that `cory compare` reads from these options of its own."""
    names = ("config", "preset", "arms", "baseline", "seeds", "kl_coefs", "learning_rates")
    return read_comparison({}, {**dict.fromkeys(names), **options})


@pytest.mark.parametrize("name", PRESETS)
def test_a_comparison_survives_its_file(name: str, tmp_path: Path) -> None:
    """Prevents an OUT/comparison.yaml that gives other runs than those beside it."""
    plan = read(preset=name)
    path = tmp_path / "comparison.yaml"
    path.write_text(yaml.safe_dump(plan.to_dict(), sort_keys=False))
    again = read(config=str(path))
    assert again.to_dict() == plan.to_dict()
    assert [run.directory for run in again.runs("x")] == [run.directory for run in plan.runs("x")]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_end_when_every_agent_has_had_every_role_equally(name: str) -> None:
    """Prevents results that favour whoever was pioneer last."""
    assert read(preset=name).warnings() == []


def test_warnings_name_what_a_reader_should_know() -> None:
    """Prevents a pioneer's advantage from being taken for an agent's."""
    (uneven,) = comparison(base={"max_steps": 15}).warnings()
    assert "cory ends after 15 iterations" in uneven
    assert "= 10" in uneven
    (single,) = comparison(seeds=[3]).warnings()
    assert "one seed" in single


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {}}, "at least one arm"),
        ({"arms": {"../x": {}}}, "becomes a folder"),
        ({"arms": {"a": {}, "b": {"num_agents": 2}}}, "'a' and 'b' are the same run"),
        ({"arms": {"grpo": STANDARD_ARMS["grpo"]}}, "arm 'grpo': batch_size=10 is not a multiple"),
        ({"base": {"num_agents": 3}}, "so does every arm"),
        ({"base": {"kl_coef": 0.1}, "kl_coefs": [0.1, 0.2]}, "leave one of them out"),
        ({"base": {"learning_rate": [0.1, 0.2]}}, "must be one number"),
        ({"base": {"batch_sise": 3}}, "did you mean batch_size"),
        ({"base": {"eval_steps": None}}, "must be a multiple of logging_steps"),
        ({"base": {"eval_steps": 5, "logging_steps": 2}}, "must be a multiple of logging_steps"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [1, 1]}, "lists a value twice"),
        ({"baseline": "pppo"}, "no baseline arm 'pppo': did you mean ppo?; there is"),
        (
            {"arms": {"a": {"kl_coef": 0.5}}, "kl_coefs": [0.1, 0.2], "allow": ["kl_coef"]},
            "all of kl_coefs would give the same run",
        ),
    ],
)
def test_plans_that_cannot_be_meant_are_refused(changes: dict[str, Any], message: str) -> None:
    """Prevents an hour of runs whose comparison means nothing."""
    with pytest.raises(ValueError, match=r".+") as caught:
        comparison(**changes)
    assert message in str(caught.value)
