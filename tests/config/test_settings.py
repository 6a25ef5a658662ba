"""Settings: their defaults, their rules, and that each of them does something."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import cory
from cory.config import FIELD_NAMES, SETTINGS, CORYConfig
from cory.config.fields import FRACTION, NON_NEGATIVE, POSITIVE, Range
from cory.config.rules import GROUP_ESTIMATORS
from cory.tasks import for_task

SOURCES = Path(inspect.getfile(cory)).parent


def named(range: Range) -> list[str]:
    """The settings with that range."""
    return [name for name, facts in SETTINGS.items() if facts.range is range]


def test_a_setting_can_be_changed_in_a_copy_only() -> None:
    """Prevents a setting from being one thing at the start of a run and another later."""
    args = CORYConfig()
    with pytest.raises(FrozenInstanceError):
        args.max_steps = 3  # pyright: ignore[reportAttributeAccessIssue]
    assert (args.replace(max_steps=3).max_steps, args.max_steps) == (3, 100)
    assert CORYConfig(**args.to_dict()) == args
    assert pickle.loads(pickle.dumps(args)) == copy.deepcopy(args) == args


def test_the_constructor_shows_its_settings() -> None:
    """Prevents an editor, or the command line, from seeing `**settings` only."""
    assert inspect.signature(CORYConfig).parameters.keys() == FIELD_NAMES


NUMBERS = {
    name: list[float] in get_args(hint) and float not in get_args(hint)
    for name, hint in get_type_hints(CORYConfig).items()
    if {int, float, list[float]} & {hint, *get_args(hint)}
}
"""By name; True if it must be a list."""


@pytest.mark.parametrize("name", sorted(NUMBERS))
@pytest.mark.parametrize("number", [10**24, -(10**24), 10**6000], ids=["large", "small", "long"])
def test_every_number_has_bounds(name: str, number: int) -> None:
    """Prevents memory, or time, without end for a number with a digit too many."""
    with pytest.raises(ValueError, match=rf"{name}=.* must (?!be int)"):
        CORYConfig(**{name: [number] if NUMBERS[name] else number})


@pytest.mark.parametrize("name", ["temperature", "kl_target", "adam_epsilon", "score_clip"])
def test_a_number_that_divides_is_not_nearly_zero(name: str) -> None:
    """Prevents an infinity in float32."""
    with pytest.raises(ValueError, match=rf"{name}=1e-320 must "):
        CORYConfig(**{name: 1e-320})


@pytest.mark.parametrize("name", ["output_dir", "model_name_or_path", "dataset_name"])
@pytest.mark.parametrize(
    "text", ["", "  ", "a\0b", "a" * 256, "ü" * 128, "a/" + "b" * 256, "a/" * 3000]
)
def test_a_name_can_name_a_file(name: str, text: str) -> None:
    """Prevents an OSError, or a run in the directory that one stands in."""
    with pytest.raises(ValueError, match=rf"{name}='.* must be a name: not empty"):
        CORYConfig(**{name: text})


def test_long_names_that_fit_are_taken() -> None:
    """Prevents a limit in characters where file systems count bytes, and none for each part."""
    assert CORYConfig(output_dir=f"{'a' * 255}/{'ü' * 127}").output_dir


@pytest.mark.parametrize("name", sorted(FIELD_NAMES))
def test_every_setting_does_something(name: str) -> None:
    """Prevents a setting that is accepted and ignored."""
    users = [
        path
        for path in SOURCES.rglob("*.py")
        if path.relative_to(SOURCES).parts[0] != "config"
        and re.search(rf"\bargs\.{name}\b|[\"']{name}[\"']", path.read_text())
    ]
    used_by_transformers = {"greater_is_better", "metric_for_best_model"}
    assert (
        users
        or name in used_by_transformers
        or name in (SOURCES / "training" / "callbacks.py").read_text()
    )


def test_every_setting_is_explained() -> None:
    """Prevents an option without help."""
    source = "".join(path.read_text() for path in (SOURCES / "config").glob("*.py"))
    for field in fields(CORYConfig):
        assert re.search(rf'^    {field.name}: .*?\n    """\w', source, re.M | re.S), field.name


def test_a_task_brings_its_defaults() -> None:
    """Prevents a task's templates or lengths from being lost, or from winning over one's own."""
    args = for_task("gsm8k", max_steps=7)
    assert args.task == "gsm8k"
    assert args.max_steps == 7
    assert "Question: {query}" in args.query_template
    assert for_task("gsm8k", query_template="{query}!").query_template == "{query}!"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({name: 0}, rf"{name}=0(\.0)? must be greater than 0") for name in named(POSITIVE)),
        *(({name: 1.5}, rf"{name}=1.5 must lie between 0 and 1") for name in named(FRACTION)),
        *(({name: -1}, rf"{name}=-1 must not be negative") for name in named(NON_NEGATIVE)),
        *(
            ({"advantage_estimator": name}, r"num_generations of at least 2, not 1: set num_gen")
            for name in GROUP_ESTIMATORS
        ),
        ({"top_p": 0.0}, r"top_p=0.0 must be greater than 0 and at most 1"),
        ({"top_p": 1.5}, r"top_p=1.5 must be greater than 0 and at most 1"),
        ({"min_p": 1.0}, r"min_p=1.0 must be from 0 to less than 1"),
        ({"top_k": 1}, r"top_k=1 must be 0, for all tokens, or from 2 .* nothing can be learnt"),
        ({"importance_sampling_level": "sequence"}, r"='gae' has one per token: set advantage_est"),
        ({"scale_rewards": "none"}, r"='gae' divides by nothing: set advantage_estimator='group'"),
        ({"use_bias_correction_kl": True}, r"not kl_placement='reward' with .*: set kl_placement="),
        ({"kl_coef": float("nan")}, r"kl_coef=nan must be finite"),
        ({"learning_rate": [1e-3, float("inf")]}, r"learning_rate=.* must be finite"),
        ({"kl_placement": "all"}, r"kl_placement='all' is not one of reward, loss, both"),
        ({"max_steps": "10"}, r"max_steps='10' must be int, not str"),
        ({"max_steps": 10.0}, r"max_steps=10.0 must be int, not float"),
        ({"bf16": 1}, r"bf16=1 must be bool or auto, not int"),
        ({"seed": True}, r"seed=True must be int, not bool"),
        ({"learning_rate": "1e-5"}, r"learning_rate='1e-5' must be .*YAML .* write 1.0e-5"),
        ({"reward_funcs": "a.b"}, r"reward_funcs='a.b' must be list\[str\] \| None, not str"),
        ({"chat_template_kwargs": {1: 2}}, r"chat_template_kwargs=.* must be a mapping from names"),
        ({"chat_template_kwargs": {"a": Path("x")}}, r"must be a mapping from names to texts"),
        ({"stop_strings": ["a", ""]}, r"stop_strings=.* must hold texts that are not empty"),
        ({"output_dir": Path("x")}, r"output_dir=.* must be str, not PosixPath"),
        ({"query_template": "Why?"}, r"query_template='Why\?' has no \{query\}: write \{query\}"),
        ({"observer_template": "{query}"}, r"observer_template=.* has no \{references\}"),
        ({"observer_template": "{references}"}, r"observer_template=.* has no \{query\}"),
        ({"reference_template": "{query}"}, r"reference_template=.* has no \{answer\}"),
        ({"batch_size": 10, "num_generations": 4}, r"batch_size=10 .* set batch_size to (8|12)"),
        ({"batch_size": 2, "num_mini_batches": 3}, r"num_mini_batches=3 is more than batch_si"),
        (
            {"min_completion_length": 9, "max_completion_length": 8},
            r"min_completion_length=9 is more than max_completion_length=8",
        ),
        ({"learning_rate": [1e-3, -1.0]}, r"learning_rate=-1.0 must not be negative"),
        ({"learning_rate": [1e-3] * 3}, r"learning_rate=.* \(2 of them\)"),
        ({"load_in_4bit": True}, r"load_in_4bit=True .* set use_peft=True"),
        ({"collapse_alarms": "on"}, r"collapse_alarms='on' is not one of off, warn, stop"),
        ({"run_name": "a/b", "report_to": ["wandb"]}, r"run_name 'a/b' becomes a folder"),
        ({"project": "..", "report_to": "wandb"}, r"project '\.\.' becomes a folder"),
        ({"report_to": ["wandb", "none"]}, "all and none stand alone"),
        ({"report_to": "comet"}, "has no tracker 'comet': choose from all, none, tensorboard"),
        ({"output_dir": "~/runs"}, r"output_dir='~/runs' must be a name: .*without a - or ~"),
        ({"kl_placement": "both"}, r"kl_estimator='k1': set kl_estimator='full'"),
        (
            {"transfer_min_lift": 0.0, "role_exchange_period": None},
            r"transfer_min_lift=0.0 ends knowledge transfer .* needs a role_exchange_period",
        ),
        ({"transfer_min_lift": 0.0, "knowledge_transfer": False}, r"and knowledge_transfer=True"),
        (
            {"merge_on_exchange": 0.5, "role_exchange_period": None},
            r"merge_on_exchange=0.5 acts at exchanges .* set a period",
        ),
        ({"kl_controller": "adaptive", "kl_coef": 0.0}, r"kl_coef=0 would stay 0"),
        (
            {"reward_funcs": ["a.b"], "reward_weights": [1.0, 2.0]},
            r"reward_weights=\[.*\] must be one weight for each of reward_funcs=\[.*\]",
        ),
        *(
            ({"vllm_server_base_url": url}, r"is not the address of a server: write it like http:/")
            for url in ("localhost:8000", "ftp://here", "http://", "http://here:port", "")
        ),
        ({"vllm_server_base_url": "http://localhost:8000/v1/"}, r"leave /v1 away"),
        ({"metric_for_best_model": "kl"}, r"metric_for_best_model='kl' .* set eval_steps"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_broken_rule_is_named(settings: dict[str, Any], message: str) -> None:
    """Prevents a run that fails, or does something else than asked, after hours."""
    with pytest.raises(ValueError, match=message):
        CORYConfig(**settings)


def test_all_broken_rules_are_listed_at_once() -> None:
    """Prevents a user from mending one setting after the other, each with a start of its own."""
    with pytest.raises(ValueError, match="problems with the settings") as refused:
        CORYConfig(
            num_agents=0,
            max_steps="10",  # pyright: ignore[reportArgumentType]
            query_template="Why?",
            batch_size=2,
            num_mini_batches=3,
            load_in_4bit=True,
        )
    title, *lines = str(refused.value).splitlines()
    assert title == "5 problems with the settings:"
    assert lines == [
        "- query_template='Why?' has no {query}: write {query} where it should go",
        "- num_agents=0 must be greater than 0 and at most 64",
        "- max_steps='10' must be int, not str",
        "- num_mini_batches=3 is more than batch_size=2: a mini-batch needs at least one answer",
        "- load_in_4bit=True freezes the base in 4 bits, so something else must learn: set "
        "use_peft=True",
    ]


def test_a_rule_between_settings_waits_for_their_own_values() -> None:
    """Prevents a TypeError, or a second message about what the first explains."""
    for settings in ({"num_generations": 0}, {"batch_size": "8"}, {"num_mini_batches": None}):
        with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
            CORYConfig(**settings)
        assert next(iter(settings)) in str(refused.value)


def test_all_misspelt_names_are_listed_at_once() -> None:
    """Prevents a settings file with three mistakes from being refused three times."""
    with pytest.raises(ValueError, match=r"(?s)2 problems.*mean max_steps.*mean num_agents"):
        CORYConfig(max_step=3, num_agent=2)  # pyright: ignore[reportCallIssue]
