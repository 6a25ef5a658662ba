"""Presets: that their settings exist, and that `paper` is the paper."""

from __future__ import annotations

from dataclasses import fields

import pytest
import yaml

from cory.config import FIELD_NAMES, THEMES, CORYConfig
from cory.config.presets import PRESETS, preset_settings
from cory.tasks import TASKS, for_task
from tests.test_recipes import RECIPES


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("task", TASKS)
def test_every_preset_fits_every_task(name: str, task: str) -> None:
    """Prevents a preset with a misspelt setting, or one that contradicts a task."""
    args = for_task(task, preset=name, seed=3)
    assert preset_settings(name).items() <= args.to_dict().items()
    assert args.seed == 3


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_leaves_questions_and_sizes_to_the_task(name: str) -> None:
    """Prevents two arms of a comparison that differ in what the task decides."""
    of_tasks = {field.name for theme in ("task", "model") for field in fields(THEMES[theme])}
    sizes = {"batch_size", "max_steps", "learning_rate", "kl_coef", "num_ppo_epochs", "seed"}
    scaling = {"normalize_rewards", "num_mini_batches"}
    assert not PRESETS[name].keys() & (of_tasks | sizes | scaling)
    assert PRESETS[name].keys() <= FIELD_NAMES


def test_the_paper_preset_turns_everything_beyond_the_paper_off() -> None:
    """Prevents a later default from entering what is called the paper's method."""
    beyond = CORYConfig(
        weight_average_decay=0.9,
        evaluate_merged=True,
        merge_on_exchange=1.0,
        transfer_back_weight=1.0,
        transfer_min_lift=0.0,
        partner_samples_weight=1.0,
        advantage_estimator="group",
        num_generations=2,
        loss_type="grpo",
        cliprange_high=0.3,
        scale_rewards="none",
        importance_sampling_level="sequence",
        entropy_coef=0.01,
        kl_placement="loss",
        use_bias_correction_kl=True,
    ).to_dict()
    names = {field.name for theme in ("extensions", "loss") for field in fields(THEMES[theme])}
    assert all(beyond[name] != getattr(CORYConfig(), name) for name in names)
    args = CORYConfig(**{**beyond, **preset_settings("paper")})
    assert all(getattr(args, name) == getattr(CORYConfig(), name) for name in names)


def test_the_paper_preset_is_the_paper_recipe() -> None:
    """Prevents two statements of the paper's method that say different things."""
    recipe = yaml.safe_load((RECIPES / "imdb-gpt2-large.yaml").read_text())
    preset = preset_settings("paper")
    shared = preset.keys() & recipe.keys()
    assert {name: recipe[name] for name in shared} == {name: preset[name] for name in shared}
    assert {field.name for field in fields(THEMES["team"])} <= preset.keys()


def test_an_unknown_preset_is_named() -> None:
    """Prevents a KeyError."""
    with pytest.raises(ValueError, match="no preset 'papr': did you mean paper"):
        for_task("imdb", preset="papr")
