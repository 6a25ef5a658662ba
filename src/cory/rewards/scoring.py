"""Rewards of answers: the reward functions called, checked, and added up."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cory.distributed.world import SINGLE, World
from cory.rewards.calling import Call, RewardFunc, make_calls
from cory.rewards.failures import RewardFailures

RESERVED_COLUMNS = frozenset({"prompt", "prompts", "completion", "completions", "completion_ids"})
"""Columns of a data set that are not passed on: they would hide what was sampled."""


@dataclass(frozen=True)
class Scores:
    """What B completions earned: their weighted rewards, and those of each function by name.

    A function's are NaN in the rows where it did not apply.
    """

    total: Float[Tensor, " B"]
    by_function: dict[str, Float[Tensor, " B"]]

    @property
    def means(self) -> dict[str, float]:
        """Of each function over the rows where it applied; missing where there was none."""
        applied = {name: row[~row.isnan()] for name, row in self.by_function.items()}
        return {name: row.double().mean().item() for name, row in applied.items() if len(row)}


class RewardScorer:
    """Pays answers: the one door to the reward functions.

    Reward of an answer: Σ_f weight_f · f, over the functions f that apply to it. Functions are
    called as `f(prompts=…, completions=…, completion_ids=…, **columns)`, as TRL does; where the
    prompt is a list of chat messages the completion is one, too. Async functions run at the same
    time, also inside a running event loop.

    Args:
        funcs: reward functions, at least one.
        weights: one per function; None: all 1.
        prompt_column: of the data set; it holds the query. Other columns are passed on as they are.
        failures: the rule for functions that fail; None: the first failure is an error.
        world: each process pays its part of the answers, and all get all rewards.

    Raises:
        ValueError: the number of weights differs from that of functions.
    """

    def __init__(
        self,
        funcs: Sequence[RewardFunc],
        weights: Sequence[float] | None = None,
        prompt_column: str = "prompt",
        failures: RewardFailures | None = None,
        world: World = SINGLE,
    ) -> None:
        self.weights = [1.0] * len(funcs) if weights is None else list(weights)
        if not funcs or len(self.weights) != len(funcs):
            raise ValueError(
                f"{len(self.weights)} reward_weights for {len(funcs)} reward functions; give at "
                "least one function, and one weight to each."
            )
        self.funcs = list(funcs)
        self.names = unique_names(funcs)
        self.prompt_column = prompt_column
        self.failures = failures or RewardFailures()
        self.world = world

    def score(
        self,
        rows: Sequence[dict[str, Any]],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
    ) -> Scores:
        """Rewards of one answer per row, under the plain query (r(s0, a), for observers too).

        There are B rows of the data set, B answers without special tokens, and their B lists of
        sampled token ids.

        Raises:
            RewardError: a function raised, or returned too few or too many values, or one that is
                neither a finite number nor None.
        """
        count, own = len(rows), self.world.part(len(rows))
        failed_before = self.failures.count
        with self.world.fail_together():
            paid = self._pay(rows[own], completions[own], completion_ids[own])
        failed = sum(self.world.gather(self.failures.count - failed_before))
        self.failures.count = failed_before + failed
        joined = [self.world.join(column, count) for column in paid]
        rewards = torch.tensor(joined, dtype=torch.float32)
        unpaid = rewards.isnan().all(0).nonzero().flatten().tolist()
        if unpaid and self.world.is_main:
            warnings.warn(
                f"No reward function applies to row {unpaid[0]} of the batch ({len(unpaid)} such "
                "rows): all returned None, so its reward is 0.",
                stacklevel=2,
            )
        weights = torch.tensor(self.weights, dtype=torch.float32)
        total = (weights[:, None] * rewards).nansum(0)
        return Scores(total, dict(zip(self.names, rewards, strict=True)))

    def _pay(
        self,
        rows: Sequence[dict[str, Any]],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
    ) -> list[list[float]]:
        """What each function pays for each answer; NaN where it does not apply."""
        prompts = [row[self.prompt_column] for row in rows]
        inputs = {
            **{
                name: [row[name] for row in rows]
                for name in rows[0]
                if name != self.prompt_column and name not in RESERVED_COLUMNS
            },
            "prompts": prompts,
            "completions": [
                completion
                if isinstance(prompt, str)
                else [{"role": "assistant", "content": completion}]
                for prompt, completion in zip(prompts, completions, strict=True)
            ],
            "completion_ids": [list(ids) for ids in completion_ids],
        }
        calls = [Call(*called, inputs) for called in zip(self.funcs, self.names, strict=True)]
        outcomes = make_calls(calls, self.failures.timeout)
        return [self.failures.settled(*made) for made in zip(calls, outcomes, strict=True)]


def unique_names(reward_funcs: Sequence[RewardFunc]) -> list[str]:
    """Names for metrics: the function's own, with `_2`, `_3` … where one comes again."""
    names: list[str] = []
    counts: Counter[str] = Counter()
    for function in reward_funcs:
        while isinstance(function, partial):
            function = function.func
        name = getattr(function, "__name__", type(function).__name__)
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return names
