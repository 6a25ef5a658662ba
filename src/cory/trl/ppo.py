"""`PPOTrainer` with the arguments that it had in TRL 0.12 to 1.15."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from cory.io.terminal import write
from cory.training.data import held_out_queries
from cory.training.given import given_rows
from cory.trl.config import PPOConfig
from cory.trl.data import check_same_tokens, with_texts
from cory.trl.trainer import Parts, TeamTrainer, check_arguments

SHOWN = 10
"""Queries that `generate_completions` answers."""


class MissingEnd:
    """A reward function that takes `penalty` from an answer without one of the tokens `ends`."""

    __name__ = "missing_eos_penalty"

    def __init__(self, penalty: float, ends: set[int]) -> None:
        self.penalty, self.ends = penalty, ends

    def __call__(self, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [0.0 if self.ends & set(ids) else -self.penalty for ids in completion_ids]


class PPOTrainer(TeamTrainer):
    """The `PPOTrainer` of TRL 0.12 to 1.15 on cory: one agent, or with `num_agents` a team.

    The value model is a head on the policy, and the reference is the initial model: a `value_model`
    is not trained, and a `ref_model` must be equal to the model. Instead of a `reward_model`, or
    beside it, `reward_funcs` may be given.

    Raises:
        ValueError: arguments ask for what cory does not do; the message lists all of them.
    """

    config_class: ClassVar[type] = PPOConfig
    method: ClassVar[str] = "PPO"
    is_classic: ClassVar[bool] = True

    def __init__(
        self,
        args: Any = None,
        processing_class: Any = None,
        model: Any = None,
        ref_model: Any = None,
        reward_model: Any = None,
        train_dataset: Any = None,
        value_model: Any = None,
        data_collator: Any = None,
        eval_dataset: Any = None,
        optimizers: tuple[Any, Any] = (None, None),
        callbacks: Sequence[Any] | None = None,
        peft_config: Any = None,
        reward_funcs: Any = None,
    ) -> None:
        problems = check_arguments(type(self), args, self.config_class, optimizers=optimizers)
        if ref_model is not None and not _are_equal(ref_model, model):
            problems.append(
                "ref_model has other weights than model: the reference is the initial model; pass "
                "None"
            )
        rows, ids = with_texts(train_dataset, processing_class, "train_dataset")
        held_out, _ = with_texts(eval_dataset, processing_class, "eval_dataset")
        functions = _functions(args, reward_model, reward_funcs, processing_class)
        parts = Parts(
            model,
            reward_funcs=functions,
            reward_processing_classes=[
                processing_class if one is reward_model else None for one in functions
            ],
            train_dataset=rows,
            eval_dataset=held_out,
            processing_class=processing_class,
            peft_config=peft_config,
        )
        self._set_up(args, parts, callbacks, problems, rows)
        if ids:
            encode = self.core.components.encoder.encode
            check_same_tokens(rows, ids, lambda text: encode(text, []), "train_dataset")
        if value_model is not None:
            self._say(["value_model is not trained: a head on the policy gives the values"])

    def generate_completions(self, sampling: bool = False) -> None:
        """Print what agent 0 answers to a few held-out queries, and what that earns."""
        core = self.core
        if self.eval_dataset is None:
            return
        _, sets = given_rows(None, self.eval_dataset, core.args)
        with core.agents[0].as_result():
            rows = held_out_queries(next(iter(sets.values())), SHOWN)
            shown = core.components.evaluator.evaluate(core.policies[0], rows, 1)
        for row, answer, reward in zip(rows, shown.completions, shown.task_rewards, strict=True):
            write(f"{row['prompt']} → {answer} ({reward})")


def _functions(args: Any, reward_model: Any, reward_funcs: Any, tokenizer: Any) -> list[Any]:
    given = reward_funcs if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    functions = [one for one in (reward_model, *given) if one is not None]
    if args.missing_eos_penalty is not None:
        ends = {tokenizer.eos_token_id, args.stop_token_id} - {None}
        functions.append(MissingEnd(args.missing_eos_penalty, ends))
    return functions


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two models have the same weights."""
    own, others = one.state_dict(), other.state_dict()
    return own.keys() == others.keys() and all(
        own[name].shape == others[name].shape
        and bool(torch.equal(own[name].cpu().float(), others[name].cpu().float()))
        for name in own
    )
