"""What is compared: one base, arms, and the axes they are run along. No torch, nothing is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Any

from cory import __version__
from cory.compare.arms import OWN, Arm, Times, refuse_unfair_arms, refuse_wrong_names, resolve
from cory.config import SETTINGS, CORYConfig
from cory.io.checksums import file_digest
from cory.io.files import check_folder_name, look_up
from cory.tasks import task_defaults

DEFAULTS: dict[str, Any] = {"eval_steps": 10, "save_steps": 10, "save_total_limit": 1}
"""What every comparison needs of its runs: curves, and one checkpoint to continue from. A task's
defaults and the base win."""

AXES = {"kl_coef": "kl_coefs", "learning_rate": "learning_rates"}
"""Settings that a comparison may run several values of, and the name of the list."""


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One training of the matrix. `kl_coef` and `learning_rate` are its place on the axes."""

    arm: str
    kl_coef: float
    learning_rate: float
    seed: int
    args: CORYConfig

    @property
    def directory(self) -> Path:
        return Path(self.args.output_dir)

    @property
    def comparison_directory(self) -> Path:
        return self.directory.parents[2]

    def __str__(self) -> str:
        return f"{self.arm} · η {self.kl_coef:g} · lr {self.learning_rate:g} · seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms × seeds × KL coefficients × learning rates on one base.

    Args:
        base: settings of all runs, on top of the task's defaults; `task` names the task.
        arms: what each arm changes of the base, by name.
        seeds: every arm runs once with each.
        kl_coefs: values of η; empty: the base's.
        learning_rates: likewise.
        allow: settings of the ground that arms may change (`cory.compare.arms`).
        baseline: the arm that differences are taken to; None: `ppo` if it is there, else the first.
        title: for the report.

    Raises:
        ValueError: arms differ where they must not, or a setting is wrong; with the fix.
    """

    base: Mapping[str, Any]
    arms: Mapping[str, Arm]
    seeds: Sequence[int] = (0, 1, 2)
    kl_coefs: Sequence[float] = ()
    learning_rates: Sequence[float] = ()
    allow: Sequence[str] = ()
    baseline: str | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        _check_names(self)
        refuse_wrong_names(self.base, "the base")
        refuse_unfair_arms(self.arms, self.allow)
        _check_axes(self)
        _check_base(self)
        _check_arms(self)

    @cached_property
    def base_config(self) -> CORYConfig:
        """The base as a run's settings."""
        task = self.base.get("task")
        of_task = {} if task is None else task_defaults(task)
        return CORYConfig(**{**DEFAULTS, **of_task, **self.base})

    @property
    def baseline_arm(self) -> str:
        """The arm that differences are taken to."""
        return self.baseline or ("ppo" if "ppo" in self.arms else next(iter(self.arms)))

    def axis(self, setting: str) -> tuple[float, ...]:
        """The values of `kl_coef` or `learning_rate` that are run."""
        return tuple(getattr(self, AXES[setting])) or (getattr(self.base_config, setting),)

    def runs(self, output_dir: Path | str) -> list[PlannedRun]:
        """All runs, seed by seed, so that a matrix that is cut off has compared something."""
        cells = product(self.seeds, self.axis("learning_rate"), self.axis("kl_coef"), self.arms)
        runs = []
        for seed, rate, kl_coef, arm in cells:
            args = self.arm_config(arm, kl_coef=kl_coef, learning_rate=rate, seed=seed)
            place = f"kl{kl_coef:g}-lr{rate:g}-seed{seed}-{fingerprint(args)}"
            # `PlannedRun.comparison_directory` finds the way back.
            args = args.replace(output_dir=str(Path(output_dir) / "runs" / arm / place))
            runs.append(PlannedRun(arm, kl_coef, rate, seed, args))
        return runs

    def arm_config(self, arm: str, **cell: Any) -> CORYConfig:
        """The settings of an arm at a place of the matrix.

        Raises:
            ValueError: the arm does not fit the base.
        """
        base = self.base_config.replace(**cell)
        try:
            return base.replace(**resolve(self.arms[arm], base.to_dict()))
        except ValueError as error:
            raise ValueError(f"arm {arm!r}: {error}") from error

    def warnings(self) -> list[str]:
        """What a reader of the results should know beforehand."""
        found = []
        if len(set(self.seeds)) < 2:
            found.append("one seed: differences come without intervals, so they show nothing yet")
        if any("reward_funcs" in arm for arm in self.arms.values()):
            found.append(
                "arms have other reward functions, so their rewards cannot be compared: list all "
                "functions in the base and let arms differ in reward_weights"
            )
        elif any("reward_weights" in arm for arm in self.arms.values()):
            found.append("arms are paid differently: compare reward/NAME, not their task reward")
        for name in self.arms:
            args = self.arm_config(name)
            period = args.role_exchange_period
            cycle = args.num_agents * period if period and args.num_agents > 1 else 1
            if args.max_steps % cycle:
                found.append(
                    f"{name} ends after {args.max_steps} iterations, which favours the last "
                    f"pioneer: choose a multiple of num_agents × role_exchange_period = {cycle}"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        """As a YAML file holds it; such a file gives the same runs again."""
        config, defaults = self.base_config.to_dict(), CORYConfig().to_dict()
        left_out = {"task", *AXES, *OWN, *_set_by_every_arm(self.arms)}
        return {
            "title": self.title,
            "task": config["task"],
            "baseline": self.baseline_arm,
            "seeds": list(self.seeds),
            "kl_coefs": list(self.axis("kl_coef")),
            "learning_rates": list(self.axis("learning_rate")),
            "allow": list(self.allow),
            "base": {
                name: value
                for name, value in config.items()
                if name not in left_out and value != defaults[name]
            },
            "arms": {
                arm: {k: str(v) if isinstance(v, Times) else v for k, v in changes.items()}
                for arm, changes in self.arms.items()
            },
        }


def _check_names(comparison: Comparison) -> None:
    if not comparison.arms:
        raise ValueError("a comparison needs at least one arm: name one under `arms`")
    for name in comparison.arms:
        check_folder_name(name, "arm")
    if comparison.baseline is not None:
        look_up("baseline arm", comparison.baseline, comparison.arms)


def _check_axes(comparison: Comparison) -> None:
    if not comparison.seeds:
        raise ValueError("seeds is empty: list at least one, better three")
    for name in ("seeds", *AXES.values()):
        values = getattr(comparison, name)
        if len(set(values)) < len(values):
            raise ValueError(f"{name}={list(values)} lists a value twice")
    for setting, axis in AXES.items():
        values = getattr(comparison, axis)
        if values and setting in comparison.base:
            raise ValueError(
                f"the base sets {setting}={comparison.base[setting]}, but {axis} lists what is "
                f"run: leave one of them out"
            )
        for name, arm in comparison.arms.items():
            if len(values) > 1 and setting in arm and not isinstance(arm[setting], Times):
                raise ValueError(
                    f"arm {name!r} sets {setting} itself, so all of {axis} would give the same "
                    f"run: write a multiple such as x2, or give {axis} one value"
                )
        if isinstance(getattr(comparison.base_config, setting), list):
            raise ValueError(
                f"the base's {setting} must be one number; an arm may have a list of them under "
                f"`allow: [{setting}]`"
            )


def _check_base(comparison: Comparison) -> None:
    for name in _set_by_every_arm(comparison.arms):
        if name in comparison.base:
            raise ValueError(
                f"the base sets {name}, but so does every arm, so it would do nothing: change the "
                "arms instead"
            )
    args = comparison.base_config
    if args.eval_steps is None or args.eval_steps % args.logging_steps:
        raise ValueError(
            f"eval_steps={args.eval_steps} must be a multiple of logging_steps="
            f"{args.logging_steps}: each evaluation needs the samples and seconds used so far"
        )


def _set_by_every_arm(arms: Mapping[str, Arm]) -> set[str]:
    """Settings of which the base's value is never used."""
    return set.intersection(
        *(
            {name for name, value in arm.items() if not isinstance(value, Times)}
            for arm in arms.values()
        )
    )


def _check_arms(comparison: Comparison) -> None:
    cell = {setting: comparison.axis(setting)[0] for setting in AXES}
    configs = {name: comparison.arm_config(name, **cell) for name in comparison.arms}
    for first, second in combinations(configs, 2):
        if configs[first] == configs[second]:
            raise ValueError(
                f"arms {first!r} and {second!r} are the same run on this base: drop one, or "
                "change the base or an arm"
            )


def fingerprint(args: CORYConfig) -> str:
    """Eight signs that differ for runs with different results, so that none is run twice.

    They cover the settings that are not the default, the version of cory, and the files of reward
    functions and queries, so that an edited reward is another run.
    """
    changed = {name: getattr(args, name) for name in result_differences({}, args)}
    files = [Path(name.rpartition(":")[0]) for name in args.reward_funcs or ()]
    files += [Path(args.dataset_name)] if args.dataset_name else []
    digests = [file_digest(path) for path in files if path.is_file()]
    identity = json.dumps([changed, digests, __version__], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def result_differences(saved: Mapping[str, Any], args: CORYConfig) -> list[str]:
    """Settings of a run's config.yaml under which it has other results than `args` would give.

    A setting that is not in the file is younger than the run, whose value was the default. A name
    that is no setting counts as a difference: what it did is not known any more.

    Args:
        saved: as `cory.config.saved` reads them.
        args: of the planned run.
    """
    planned, defaults = args.to_dict(), CORYConfig().to_dict()
    differences = [
        name
        for name in planned
        if SETTINGS[name].affects_result and saved.get(name, defaults[name]) != planned[name]
    ]
    return differences + [name for name in saved if name not in planned]
