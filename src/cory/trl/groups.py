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
        functions = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
        tokenizers = _one_each(reward_processing_classes, functions, problems)
        self.reward_funcs, self.reward_processing_classes = functions, tokenizers
        rows = train_dataset
        if not getattr(args, "shuffle_dataset", True):
            rows = in_own_order(rows)
        parts = Parts(
            model,
            reward_funcs=functions,
            train_dataset=rows,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            reward_processing_classes=tokenizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        self._set_up(args, parts, callbacks, problems, train_dataset)


def _one_each(given: Any, functions: list[Any], problems: list[str]) -> list[Any]:
    """A tokenizer for each reward function, None where it takes none or its own."""
    if given is None:
        return [None] * len(functions)
    found = list(given) if isinstance(given, list | tuple) else [given]
    if len(found) == len(functions):
        return found
    problems.append(
        f"{len(found)} reward_processing_classes must match {len(functions)} reward_funcs: give "
        "one to each, None where it takes none"
    )
    return [None] * len(functions)


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
