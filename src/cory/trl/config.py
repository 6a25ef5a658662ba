"""`GRPOConfig`, `RLOOConfig` and `PPOConfig`: TRL's arguments, with cory's settings beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from cory.config import SETTINGS
from cory.config.validation import refuse_problems
from cory.io.files import did_you_mean
from cory.trl.arguments import ARGUMENTS
from cory.trl.fields import (
    WHAT_IS_PASSED,
    GRPOFields,
    PPOFields,
    RLOOFields,
    with_settings,
)
from cory.trl.objectives import CLASSIC_PPO, CLASSIC_RLOO, OBJECTIVES
from cory.trl.rows import Row
from cory.trl.sizes import Sizes, classic_sizes, group_sizes
from cory.trl.translate import translate


class _Keywords(type):
    """Lets a configuration be called with settings that are no options of a command line.

    A dataclass refuses a keyword that is no field, and a subclass of the user's has an `__init__`
    of its own: so they are taken out before it is called.
    """

    def __call__(cls, *values: Any, **keywords: Any) -> Any:
        names = {one.name for one in fields(cls)}  # pyright: ignore[reportArgumentType]
        passed = {name: value for name, value in keywords.items() if name in WHAT_IS_PASSED - names}
        unknown = keywords.keys() - names - passed.keys()
        refuse_problems(
            f"{name!r} is not a field of {cls.__name__}{did_you_mean(name, names)}"
            for name in sorted(unknown)
        )
        made: Any = object.__new__(cls)  # pyright: ignore[reportArgumentType]
        made.__dict__["passed"] = passed
        made.__init__(*values, **{name: keywords[name] for name in keywords if name not in passed})
        return made


class _Configuration(metaclass=_Keywords):
    """What the three configurations have in common.

    Each has `method_settings()`, what makes cory's trainer this method of TRL, and `sizes()` of an
    iteration, which raises ValueError where they do not fit together.
    """

    table: ClassVar[Mapping[str, Row]]
    table_class: ClassVar[type]
    """The class whose fields and defaults are TRL's."""
    own_settings: ClassVar[Mapping[str, Any]]
    """Fields that are settings of cory, with their defaults."""

    def __post_init__(self) -> None:
        super().__post_init__()  # pyright: ignore[reportAttributeAccessIssue]
        self.check()

    def check(self) -> None:
        """Refuse what cannot be trained, whatever the data are.

        Raises:
            SettingsError: with all problems.
        """
        translate(self, num_rows=1_000_000)

    def sampling_settings(self, notes: list[str]) -> dict[str, Any]:
        """Settings of who samples the answers; `notes` gets lines about what has no effect."""
        return {}


class _OfGroups(_Configuration):
    """What GRPO and RLOO have in common."""

    def sizes(self) -> Sizes:
        args: Any = self
        return group_sizes(args, args.world_size)

    def sampling_settings(self, notes: list[str]) -> dict[str, Any]:
        args: Any = self
        settings: dict[str, Any] = {"num_eval_samples": args.num_generations_eval}
        if args.num_generations_eval is None:
            settings["num_eval_samples"] = args.num_generations or 1
        if not args.use_vllm:
            return settings
        if args.vllm_mode != "server":
            notes.append(
                f"use_vllm=True with vllm_mode={args.vllm_mode!r}: this process samples answers "
                "by itself; for a server that runs beside it set vllm_mode='server'"
            )
            return settings
        host = "localhost" if args.vllm_server_host == "0.0.0.0" else args.vllm_server_host
        url = args.vllm_server_base_url or f"http://{host}:{args.vllm_server_port}"
        settings["vllm_server_base_url"] = url
        if not getattr(args, "vllm_importance_sampling_correction", True):
            settings["vllm_importance_sampling_clip_max"] = None
        return settings


def _own(base: type, whole: Any) -> dict[str, Any]:
    declared = {one.name for one in fields(base)}
    return {
        one.name: one.default
        for one in fields(whole)
        if one.name in SETTINGS and one.name not in declared
    }


_GRPO, _RLOO, _PPO = map(with_settings, (GRPOFields, RLOOFields, PPOFields))


@dataclass
class GRPOConfig(_OfGroups, _GRPO):
    """Arguments of `GRPOTrainer`: those of TRL's `GRPOConfig`, and all settings of cory.

    Raises:
        ValueError: fields ask for what cory does not do; the message lists all of them.
    """

    table: ClassVar[Mapping[str, Row]] = {**ARGUMENTS, **OBJECTIVES}
    table_class: ClassVar[type] = GRPOFields
    own_settings: ClassVar[Mapping[str, Any]] = _own(GRPOFields, _GRPO)

    def method_settings(self) -> dict[str, Any]:
        return {"advantage_estimator": "group", "kl_placement": "loss", "kl_estimator": "k3"}


@dataclass
class RLOOConfig(_OfGroups, _RLOO):
    """Arguments of `RLOOTrainer`: those of TRL's `RLOOConfig`, and all settings of cory.

    Raises:
        ValueError: fields ask for what cory does not do; the message lists all of them.
    """

    table: ClassVar[Mapping[str, Row]] = {**ARGUMENTS, **OBJECTIVES, **CLASSIC_RLOO}
    table_class: ClassVar[type] = RLOOFields
    own_settings: ClassVar[Mapping[str, Any]] = _own(RLOOFields, _RLOO)

    def method_settings(self) -> dict[str, Any]:
        return {
            "advantage_estimator": "leave_one_out",
            "kl_placement": "reward",
            "kl_estimator": "k1",
            "loss_type": "grpo",
            "importance_sampling_level": "sequence_product",
        }


@dataclass
class PPOConfig(_Configuration, _PPO):
    """Arguments of `PPOTrainer`: those of the `PPOConfig` of TRL 0.12 to 1.15, and cory's settings.

    Raises:
        ValueError: fields ask for what cory does not do; the message lists all of them.
    """

    table: ClassVar[Mapping[str, Row]] = {**ARGUMENTS, **CLASSIC_PPO}
    table_class: ClassVar[type] = PPOFields
    own_settings: ClassVar[Mapping[str, Any]] = _own(PPOFields, _PPO)

    def method_settings(self) -> dict[str, Any]:
        args: Any = self
        return {
            "advantage_estimator": "gae",
            "kl_placement": "reward",
            "per_device_eval_batch_size": args.local_rollout_forward_batch_size,
        }

    def sizes(self) -> Sizes:
        args: Any = self
        return classic_sizes(args, args.world_size)
