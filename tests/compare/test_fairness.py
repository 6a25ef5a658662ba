"""Arms: what they change, what they must not, and what the named ones mean."""

from __future__ import annotations

from typing import Any

import pytest

from cory.compare.arms import STANDARD_ARMS, Times, refuse_unfair_arms, resolve
from cory.config import CORYConfig
from tests.compare.made_up import comparison


@pytest.mark.parametrize(
    "setting",
    [
        "task",
        "dataset_name",
        "reward_funcs",
        "reward_weights",
        "query_template",
        "observer_template",
        "model_name_or_path",
        "max_completion_length",
        "temperature",
        "num_eval_queries",
        "eval_steps",
        "kl_coef",
        "normalize_rewards",
        "gamma",
        "max_steps",
        "learning_rate",
        "num_ppo_epochs",
        "max_grad_norm",
        "bf16",
    ],
)
def test_the_ground_is_refused_unless_allowed(setting: str) -> None:
    """Prevents the reference code's comparison, whose arms differ in η and reward scaling, too."""
    arms = {"ppo": {"num_agents": 1}, "other": {setting: getattr(CORYConfig(), setting)}}
    with pytest.raises(ValueError, match=rf"'other' changes {setting}, .*allow: \[{setting}\]"):
        refuse_unfair_arms(arms, allow=[])
    refuse_unfair_arms(arms, allow=[setting])


@pytest.mark.parametrize("setting", ["seed", "output_dir", "resume"])
def test_what_a_comparison_sets_itself_is_never_an_arms(setting: str) -> None:
    """Prevents arms with seeds of their own, whose differences cannot be paired."""
    for allow in ([], [setting]):
        with pytest.raises(ValueError, match=f"sets {setting}, but"):
            refuse_unfair_arms({"a": {setting: 1}}, allow)
    with pytest.raises(ValueError, match=f"base sets {setting}, but"):
        comparison(base={setting: 1})


def test_the_treatment_is_free() -> None:
    """Prevents standard arms, or a switch of the team, from needing leave."""
    refuse_unfair_arms(STANDARD_ARMS, allow=[])
    free = ("partner_reward_weight", "kl_estimator", "batch_size", "num_generations", "lam")
    refuse_unfair_arms({"a": {name: getattr(CORYConfig, name) for name in free}}, allow=[])


def test_misspelt_settings_are_found_in_arms_and_in_allow() -> None:
    """Prevents an arm that silently equals the base."""
    with pytest.raises(ValueError, match="did you mean num_agents"):
        refuse_unfair_arms({"a": {"num_agent": 1}}, allow=[])
    with pytest.raises(ValueError, match="here it is kl_coef"):
        refuse_unfair_arms({"a": {"num_agents": 1}}, allow=["kl_coeff"])


def test_multiples_follow_the_base() -> None:
    """Prevents a compute-matched arm that keeps its samples when the base changes."""
    assert resolve(STANDARD_ARMS["ppo-2x"], {"batch_size": 24})["batch_size"] == 48
    assert isinstance(Times(2).of("batch_size", 24), int)
    assert Times.parse("× 1.5") == Times(1.5)
    assert Times.parse("x2 and more") is None
    for name, value in (("batch_size", 3), ("cliprange_value", None), ("bf16", True)):
        with pytest.raises(ValueError, match=f"{name}: x0.5"):
            Times(0.5).of(name, value)


def effects(arm: str) -> dict[str, Any]:
    """What a standard arm changes of a base that is a team of two."""
    base = CORYConfig(batch_size=64)
    chosen = comparison(base={"batch_size": 64}, arms={arm: STANDARD_ARMS[arm]}).arm_config(arm)
    return {
        name: value
        for name, value in chosen.to_dict().items()
        if value != base.to_dict()[name]
        and name not in ("eval_steps", "save_steps", "save_total_limit")
    }


@pytest.mark.parametrize(
    ("arm", "changes"),
    [
        ("ppo", {"num_agents": 1}),
        ("ppo-2x", {"num_agents": 1, "batch_size": 128}),
        ("ppo-2x-ema", {"num_agents": 1, "batch_size": 128, "weight_average_decay": 0.9}),
        ("ppo-reset", {"num_agents": 1, "reset_on_exchange": True}),
        ("cory", {}),
        ("cory-no-transfer", {"knowledge_transfer": False}),
        ("cory-no-exchange", {"role_exchange_period": None}),
        ("cory-own-reward", {"partner_reward_weight": 0.0}),
        ("cory-reset", {"reset_on_exchange": True}),
        ("competitive", {"partner_reward_weight": -1.0}),
        ("grpo", {"num_agents": 1, "advantage_estimator": "group", "num_generations": 4}),
        ("rloo", {"num_agents": 1, "advantage_estimator": "leave_one_out", "num_generations": 4}),
        ("reinforce", {"num_agents": 1, "advantage_estimator": "reinforce"}),
        ("elastic-reset", {"num_agents": 1, "elastic_reset_period": 17}),
        ("cory-grpo", {"advantage_estimator": "group", "num_generations": 4}),
        ("cory-rloo", {"advantage_estimator": "leave_one_out", "num_generations": 4}),
        ("cory-3", {"num_agents": 3}),
        (
            "team",
            {
                "partner_reward_weight": 0.0,
                "partner_samples_weight": 1.0,
                "transfer_back_weight": 0.1,
                "merge_on_exchange": 1.0,
                "weight_average_decay": 0.9,
            },
        ),
    ],
)
def test_standard_arms_are_what_their_names_say(arm: str, changes: dict[str, Any]) -> None:
    """Prevents a control that changes something beside what it controls for."""
    assert effects(arm) == changes
