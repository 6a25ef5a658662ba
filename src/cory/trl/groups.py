"""`GRPOTrainer` and `RLOOTrainer` with TRL's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import PreTrainedModel

from cory.training.given import EvalRows, GivenRows
from cory.trl.config import GRPOConfig, RLOOConfig
from cory.trl.data import in_own_order
from cory.trl.trainer import GivenPeft, GivenTokenizer, Parts, TeamTrainer, check_arguments


class _GroupTrainer(TeamTrainer):
    """A trainer that compares the answers to one query."""

    def __init__(
        self,
        model: str | PreTrainedModel | Any = None,
        reward_funcs: Any = None,
        args: Any = None,
        train_dataset: GivenRows | None = None,
        eval_dataset: EvalRows | None = None,
        processing_class: GivenTokenizer = None,
        reward_processing_classes: Any = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: GivenPeft = None,
        tools: Any = None,
        rollout_func: Any = None,
        environment_factory: Any = None,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else model.config._name_or_path
            args = self.config_class(f"{name.rpartition('/')[2]}-{self.method}")
        problems = check_arguments(
            type(self),
            args,
            self.config_class,
            optimizers=optimizers,
            tools=tools,
            rollout_func=rollout_func,
            environment_factory=environment_factory,
        )
        rows = train_dataset
        if not getattr(args, "shuffle_dataset", True):
            rows = in_own_order(rows)
        parts = Parts(
            model,
            reward_funcs=reward_funcs,
            train_dataset=rows,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        self._set_up(args, parts, callbacks, problems, train_dataset)


class GRPOTrainer(_GroupTrainer):
    """TRL's `GRPOTrainer` on cory: one agent, or with `num_agents` a team.

    Its arguments, its reward functions and what it logs are TRL's; `cory.trl` in the how-to guide
    lists the differences.

    Raises:
        ValueError: arguments ask for what cory does not do; the message lists all of them.
    """

    config_class: ClassVar[type] = GRPOConfig
    method: ClassVar[str] = "GRPO"


class RLOOTrainer(_GroupTrainer):
    """TRL's `RLOOTrainer` on cory: one agent, or with `num_agents` a team.

    Raises:
        ValueError: arguments ask for what cory does not do; the message lists all of them.
    """

    config_class: ClassVar[type] = RLOOConfig
    method: ClassVar[str] = "RLOO"
