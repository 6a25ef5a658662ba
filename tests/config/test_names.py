"""Names of other libraries: what they are here."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_args

import pytest
from transformers import TrainingArguments

from cory.cli.help import HINTS
from cory.config import FIELD_NAMES, CORYConfig
from cory.config.names import DIFFERENT, SAME, VALUES, fix
from cory.config.saved import ADVICE
from cory.io.files import did_you_mean


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("lr", "here it is learning_rate"),
        ("beta", "here it is kl_coef"),
        ("epsilon", "here it is cliprange"),
        ("num_iterations", "here it is num_ppo_epochs"),
        ("max_new_tokens", "here it is max_completion_length"),
        ("grpo", "set advantage_estimator to group"),
        ("deepspeed", "set shard_weights"),
        ("max-stepz", "did you mean max_steps?"),
        ("nonsense", "`cory train --help` lists them"),
    ],
)
def test_a_name_from_elsewhere_gets_the_name_here(name: str, advice: str) -> None:
    """Prevents `deepspeed: did you mean seed?` and `epsilon: did you mean adam_epsilon?`."""
    with pytest.raises(ValueError, match="is not a setting of CORYConfig") as refused:
        CORYConfig(**{name: 1})
    assert f": {advice}" in str(refused.value)


def test_a_value_from_elsewhere_gets_the_value_here() -> None:
    """Prevents a list of five words for a user of GRPO, who knows one."""
    with pytest.raises(ValueError, match=r"reinforce: here it is group$"):
        CORYConfig(advantage_estimator="grpo")
    with pytest.raises(ValueError, match=r"float16$"):
        CORYConfig(dtype="int3")


def test_the_tables_name_what_there_is() -> None:
    """Prevents advice that points to nothing, and an alias that hides a setting."""
    elsewhere = [*SAME, *DIFFERENT, *ADVICE]
    assert len(elsewhere) == len(set(elsewhere))
    assert FIELD_NAMES.isdisjoint(elsewhere)
    assert set(SAME.values()) <= FIELD_NAMES
    for name, advice in DIFFERENT.items():
        words = set(re.findall(r"\w+", advice))
        assert words & FIELD_NAMES or advice.startswith(("leave it out", "log in")), name
    for name, others in VALUES.items():
        choices = get_args(HINTS[name])
        assert {value.split(",")[0] for value in others.values()} <= set(choices)
        assert set(choices).isdisjoint(others)


def test_no_setting_of_transformers_is_taken_for_a_slip() -> None:
    """Prevents a guess by letters for a name that a user has written on purpose."""
    others = {field.name for field in fields(TrainingArguments)} - FIELD_NAMES
    guessed = {name for name in others if "did you mean" in fix(name, FIELD_NAMES)}
    assert guessed <= {"gradient_checkpointing_kwargs"}
    assert len(others) > 60


def test_a_guess_needs_most_letters() -> None:
    """Prevents guesses by difflib's own threshold, at which half a name is enough."""
    assert did_you_mean("deepspeed", FIELD_NAMES) == ""
    assert did_you_mean("epsilon", ["adam_epsilon"]) == ""
    assert did_you_mean("sede", FIELD_NAMES) == ": did you mean seed?"
