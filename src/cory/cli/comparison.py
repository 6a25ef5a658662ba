"""From a preset, a YAML file and options to a `Comparison`; the later win. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cory.cli.options import read_mapping, refuse_unknown_settings, typed_settings
from cory.compare.arms import STANDARD_ARMS, Arm, Times
from cory.compare.plan import Comparison
from cory.compare.presets import PRESETS
from cory.config.validation import refuse_problems
from cory.io.files import did_you_mean, look_up

KEYS = Comparison.__dataclass_fields__.keys() | {"task", "preset"}
REMOVED = {
    "collapse": "is no longer a key: the thresholds of collapse are the same for all comparisons. "
    "Leave it out"
}
LISTS: dict[str, type] = {"seeds": int, "kl_coefs": float, "learning_rates": float}


def read_comparison(given: Mapping[str, Any], options: Mapping[str, Any]) -> Comparison:
    """The comparison that a command asks for.

    Args:
        given: settings of `CORYConfig` that were given as options; they change the base.
        options: of `cory compare`: `config`, `preset`, `arms`, `baseline`, and the axes as texts.

    Raises:
        ValueError: the comparison is incomplete, unfair or misspelt; with the fix.
    """
    file = read_mapping(Path(options["config"])) if options["config"] else {}
    _refuse_unknown_keys(file, str(options["config"]))
    name = file.get("preset") if options["preset"] is None else options["preset"]
    preset = {} if name is None else look_up("preset", name, PRESETS)
    where = str(options["config"] or f"preset {options['preset']}")
    fields: dict[str, Any] = {**preset, **{key: file[key] for key in file if key != "preset"}}
    fields |= {key: options[key].split(",") for key in ("arms", *LISTS) if options[key] is not None}
    if options["baseline"] is not None:
        fields["baseline"] = options["baseline"]
    if "arms" not in fields:
        raise ValueError(
            "nothing to compare: name arms (`--arms ppo,cory`), a --preset "
            f"({', '.join(PRESETS)}) or a --config"
        )
    if not isinstance(fields.get("title"), str | None):
        raise ValueError(f"{where}: title={fields['title']!r:.300} must be a text, in quotes")
    base = {**_mapping(preset, "base", where), **_mapping(file, "base", where)}
    if fields.get("task") is not None:
        base["task"] = fields["task"]
    known = STANDARD_ARMS | _arms(preset.get("arms"), where) | _arms(file.get("arms"), where)
    return Comparison(
        base={**typed_settings(base, where), **given},
        arms=_arms(fields["arms"], where, known),
        **{key: _numbers(key, fields[key], kind) for key, kind in LISTS.items() if key in fields},
        allow=_names("allow", fields.get("allow", ()), where),
        baseline=fields.get("baseline"),
        title=fields.get("title"),
    )


def _refuse_unknown_keys(file: Mapping[Any, Any], where: str) -> None:
    removed = [f"{where}: {key} {why}" for key, why in REMOVED.items() if key in file]
    unknown = [
        f"{where}: unknown key {key!r}{did_you_mean(str(key), KEYS)}"
        for key in file
        if key not in KEYS | REMOVED.keys()
    ]
    refuse_problems([*removed, *unknown])


def _mapping(fields: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = fields.get(key) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: {key} must hold `setting: value` lines")
    return value


def _arms(value: Any, where: str, known: Mapping[str, Arm] = STANDARD_ARMS) -> dict[str, Arm]:
    """Arms from a list of known names, or from a mapping; there, a known arm may stand alone."""
    if value is None:
        return {}
    if not isinstance(value, Mapping | Sequence) or isinstance(value, str):
        raise ValueError(f"{where}: arms must be a list of names, or `name: settings` lines")
    if not isinstance(value, Mapping) and not all(isinstance(name, str) for name in value):
        raise ValueError(f"{where}: arms={value!r:.300} must be a list of names such as ppo")
    named = value if isinstance(value, Mapping) else dict.fromkeys(value)
    return {
        name: look_up("arm", name, known) if changes is None else _arm(name, changes, where)
        for name, changes in zip(map(str, named), named.values(), strict=True)
    }


def _arm(name: Any, changes: Any, where: str) -> Arm:
    if not isinstance(changes, Mapping):
        raise ValueError(f"{where}: arm {name!r} must hold `setting: value`, or {{}} for the base")
    refuse_unknown_settings(changes, f"{where}: arm {name!r}")
    multiples = {key: Times.parse(value) for key, value in changes.items()}
    plain = {key: value for key, value in changes.items() if multiples[key] is None}
    typed = typed_settings(plain, f"{where}: arm {name!r}")
    return {key: multiples[key] or typed[key] for key in changes}


def _numbers(key: str, values: Any, kind: type) -> list[Any]:
    """Numbers of an axis; YAML takes `1e-5` for a text, options are texts."""
    values = values if isinstance(values, list) else [values]
    # Python makes a seed of true, and of 1.5, too.
    allowed = (str, int) if kind is int else (str, int, float)
    try:
        if wrong := [v for v in values if isinstance(v, bool) or not isinstance(v, allowed)]:
            raise ValueError(f"{wrong[0]!r} is none")
        return [kind(value) for value in values]
    except (OverflowError, ValueError) as error:
        numbers = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{key}={values!r:.300} must be a list of {numbers}: 0,1,2") from error


def _names(key: str, values: Any, where: str) -> list[str]:
    values = [values] if isinstance(values, str) else values
    if not isinstance(values, Sequence) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{where}: {key} must be a list of settings")
    return list(values)
