"""Rewards of answers: the reward functions called, checked, and added up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import TrainerState

from cory.distributed.world import SINGLE, World
from cory.io.terminal import say
from cory.rewards.calling import Call, RewardFunc, make_calls
from cory.rewards.failures import RewardFailures
from cory.rewards.logs import Log, joined_means
from cory.rewards.signatures import GIVEN, ON_REQUEST, check_signature
from cory.rewards.values import LARGEST_REWARD, RewardError

RESERVED_COLUMNS = frozenset({"prompt", "completion", *GIVEN, *ON_REQUEST})
"""Columns of a data set that are not passed on: they would hide what was sampled."""


@dataclass(frozen=True)
class Scores:
    """What B completions earned: their weighted rewards, and those of each function by name.

    A function's are NaN in the rows where it did not apply. The total of an answer that every
    function declined is NaN, too: there is nothing to be learnt from it. `logged` are the means of
    the numbers, `columns` the values for each answer, that the functions logged.
    """

    total: Float[Tensor, " B"]
    by_function: dict[str, Float[Tensor, " B"]]
    logged: dict[str, float] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, float]:
        """Of each function over the rows where it applied; missing where there was none."""
        applied = {name: row[~row.isnan()] for name, row in self.by_function.items()}
        return {name: row.double().mean().item() for name, row in applied.items() if len(row)}


class RewardScorer:
    """Pays answers: the one door to the reward functions.

    Reward of an answer: Σ_f weight_f · f, over the functions f that apply to it; NaN where there is
    none whose weight is not 0. Functions are called as `f(prompts=…, completions=…,
    completion_ids=…, **columns)`, as TRL does; where the prompt is a list of chat messages the
    completion is one, too. Async functions run at the same time, also inside a running event loop.
    `trainer_state` returns what functions get under that name.

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
        self.trainer_state: Callable[[], TrainerState] = lambda: TrainerState()
        self._has_warned = False

    def check_signatures(self, columns: Iterable[str]) -> None:
        """Refuse functions that cannot be called with a data set of these columns.

        Raises:
            ValueError: one needs more than there is, or takes less.
        """
        passed_on = [name for name in columns if self._is_passed_on(name)]
        for function, name in zip(self.funcs, self.names, strict=True):
            check_signature(function, name, passed_on)

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
        log = Log(own.stop - own.start)
        with self.world.fail_together():
            paid = self._pay(rows[own], completions[own], completion_ids[own], log)
        failed = sum(self.world.gather(self.failures.count - failed_before))
        self.failures.count = failed_before + failed
        rewards = torch.tensor([self.world.join(column, count) for column in paid]).double()
        total = self._total(rewards)
        self._warn_of_declined(total)
        return Scores(
            total.float(),
            dict(zip(self.names, rewards.float(), strict=True)),
            joined_means(self.world.gather(log.metrics)),
            self._joined_columns(log, count),
        )

    def _total(self, rewards: Float[Tensor, "F B"]) -> Float[Tensor, " B"]:
        weights = torch.tensor(self.weights, dtype=rewards.dtype)[:, None]
        total = (weights * rewards).nansum(0)
        total[(rewards.isnan() | (weights == 0)).all(0)] = math.nan
        too_large = (total.abs() > LARGEST_REWARD).nonzero().flatten().tolist()
        if too_large:
            raise RewardError(
                f"The weighted reward of row {too_large[0]} is {float(total[too_large[0]])}, above "
                f"{LARGEST_REWARD:.0e} in size: choose smaller reward_weights than {self.weights}."
            )
        return total

    def _warn_of_declined(self, total: Float[Tensor, " B"]) -> None:
        """Once; afterwards `declined_answers` counts them."""
        declined = total.isnan().nonzero().flatten().tolist()
        if declined and not self._has_warned and self.world.is_main:
            self._has_warned = True
            say(
                f"cory: warning: no reward function applies to row {declined[0]} of the batch "
                f"({len(declined)} such rows): all returned None, so nothing is learnt from it; "
                "the metric declined_answers counts such answers, and this is said once"
            )

    def _joined_columns(self, log: Log, count: int) -> dict[str, list[Any]]:
        """Columns of all rows; None in the part of a process that did not log one."""
        everywhere = [name for names in self.world.gather(list(log.columns)) for name in names]
        missing = [None] * log.num_rows
        return {
            name: self.world.join(log.columns.get(name, missing), count)
            for name in dict.fromkeys(everywhere)
        }

    def _is_passed_on(self, column: str) -> bool:
        return column != self.prompt_column and column not in RESERVED_COLUMNS

    def _pay(
        self,
        rows: Sequence[dict[str, Any]],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        log: Log,
    ) -> list[list[float]]:
        """What each function pays for each answer; NaN where it does not apply."""
        prompts = [row[self.prompt_column] for row in rows]
        inputs = {
            **{name: [row[name] for row in rows] for name in rows[0] if self._is_passed_on(name)},
            "prompts": prompts,
            "completions": [
                completion
                if isinstance(prompt, str)
                else [{"role": "assistant", "content": completion}]
                for prompt, completion in zip(prompts, completions, strict=True)
            ],
            "completion_ids": completion_ids,
        }
        state = self.trainer_state()
        calls = [
            Call(function, name, inputs, state, log)
            for function, name in zip(self.funcs, self.names, strict=True)
        ]
        outcomes = make_calls(calls, self.failures.timeout)
        return [self.failures.settled(*made) for made in zip(calls, outcomes, strict=True)]


def unique_names(reward_funcs: Sequence[RewardFunc]) -> list[str]:
    """Names for metrics: the function's own, with `_2`, `_3` … where one comes again."""
    names: list[str] = []
    counts: Counter[str] = Counter()
    for function in reward_funcs:
        while isinstance(function, partial):
            function = function.func
        name = _name_of(function)
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return names


def _name_of(function: RewardFunc) -> str:
    with suppress(Exception):  # an object of the user's may raise anything
        if isinstance(name := function.__name__, str):
            return name
    return type(function).__name__
