"""From a TRL configuration to cory's settings: every field by its row of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from cory.config import CORYConfig
from cory.config.validation import SettingsError, refuse_problems
from cory.trl.fields import FROM_TRL
from cory.trl.rows import Row, is_asked_for
from cory.trl.sizes import Sizes, iterations_per_epoch, num_iterations, period, warmup

TRL_NAMES = {"kl_coef": "beta", "cliprange": "epsilon", "cliprange_high": "epsilon_high"}
"""What messages call a setting where TRL has another name for it."""


@dataclass(frozen=True)
class Translation:
    """What a TRL configuration says in cory's words."""

    settings: CORYConfig
    notes: tuple[str, ...]
    """A line for each value that has no effect, or another one than in TRL."""
    sizes: Sizes
    steps_per_epoch: int | None
    """Iterations of an epoch; None where rows cannot be counted."""


@dataclass
class Draft:
    """What has been gathered so far."""

    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def take(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Add settings; a ValueError is a problem of the call."""
        try:
            self.settings |= make()
        except ValueError as error:
            self.problems.append(str(error))


def translate(args: Any, num_rows: int | None, problems: Sequence[str] = ()) -> Translation:
    """The settings that a TRL configuration stands for.

    Args:
        args: of one of the classes in `cory.trl.config`.
        num_rows: of the training data; None: they cannot be counted.
        problems: of the same call, that were found before.

    Raises:
        SettingsError: all fields that are refused, and all settings that break a rule.
    """
    draft = Draft(problems=list(problems))
    _read_table(args, draft)
    draft.take(args.method_settings)
    planned: list[tuple[Sizes, int]] = []
    draft.take(lambda: _plan(args, num_rows, planned))
    if not planned:  # other settings are judged as if the sizes were sound
        draft.settings |= {"batch_size": 2, "num_generations": 2}
    draft.take(lambda: args.sampling_settings(draft.notes))
    draft.settings |= _given(args, draft.settings)
    try:
        settings = CORYConfig(**draft.settings)
    except SettingsError as error:
        refuse_problems(draft.problems + [_in_trl_names(line) for line in error.problems])
        raise
    refuse_problems(draft.problems)
    sizes = planned[0][0]
    per_epoch = None if num_rows is None else iterations_per_epoch(sizes, num_rows)
    return Translation(settings, tuple(draft.notes), sizes, per_epoch)


def _read_table(args: Any, draft: Draft) -> None:
    defaults = defaults_of(args.table_class)
    table: Mapping[str, Row] = args.table
    for name, default in defaults.items():
        row = table.get(name)
        if row is None:
            continue
        value = getattr(args, name)
        if row.settings is not None:
            make = row.settings
            draft.take(lambda make=make, value=value: make(value))
        elif row.kind != "used" and is_asked_for(value, default, row.fine):
            lines = draft.notes if row.kind == "no-op" else draft.problems
            lines.append(row.message(name, value))


def defaults_of(kind: type) -> dict[str, Any]:
    """The default of each field of a configuration, before `__post_init__` completes them."""
    return {
        one.name: one.default_factory() if one.default is MISSING else one.default  # pyright: ignore
        for one in fields(kind)
    }


def _plan(args: Any, num_rows: int | None, planned: list[tuple[Sizes, int]]) -> Mapping[str, Any]:
    """Sizes, number of iterations, and when something is evaluated and saved."""
    sizes: Sizes = args.sizes()
    total = num_iterations(args, sizes, num_rows)
    planned.append((sizes, total))
    per_epoch = None if num_rows is None else iterations_per_epoch(sizes, num_rows)
    answers_at_once = sizes.batch_size // max(1, args.world_size)
    return {
        "output_dir": args.output_dir,
        "bf16": bool(args.bf16 or args.fp16),
        "gradient_checkpointing": bool(args.gradient_checkpointing),
        "batch_size": sizes.batch_size,
        "num_generations": sizes.num_generations,
        "num_ppo_epochs": sizes.num_ppo_epochs,
        "num_mini_batches": sizes.num_mini_batches,
        "max_steps": total,
        "warmup_steps": warmup(args, sizes, total),
        "per_device_train_batch_size": args.per_device_train_batch_size,
        "per_device_eval_batch_size": max(args.per_device_eval_batch_size, answers_at_once),
        "logging_steps": 1,
        "report_to": None,
        "run_name": None,
        "metric_for_best_model": None,
        "greater_is_better": True,
        "eval_steps": _due("eval", args.eval_strategy, args.eval_steps, sizes, total, per_epoch),
        "save_steps": _due("save", args.save_strategy, args.save_steps, sizes, total, per_epoch),
    }


def _due(
    what: str, strategy: Any, steps: float | None, sizes: Sizes, total: int, per_epoch: int | None
) -> int | None:
    """Iterations between two evaluations or checkpoints; None: only at the end."""
    name = str(getattr(strategy, "value", strategy))
    if name == "steps":
        return period(steps or 1, sizes, total)
    if name == "epoch":
        return per_epoch or total
    if name == "no":
        return None
    raise ValueError(f"{what}_strategy={name!r}: cory has no, steps and epoch: choose one of these")


def _given(args: Any, draft: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given by their own names, which win over what TRL's fields say."""
    found = {}
    for name, default in args.own_settings.items():
        value = getattr(args, name)
        is_given = value != default
        if is_given or (name not in draft and name not in FROM_TRL):
            found[name] = value
    return found | vars(args).get("passed", {})


def _in_trl_names(message: str) -> str:
    """A message about a setting, with the name that its field has in TRL.

    >>> _in_trl_names("kl_coef=-1 must not be negative")
    'beta=-1 must not be negative'
    """
    name, equals, rest = message.partition("=")
    return f"{TRL_NAMES.get(name, name)}{equals}{rest}"
