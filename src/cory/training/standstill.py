"""Warnings where nothing can be learnt, each given once: a run is not stopped by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from cory.config import CORYConfig
from cory.models.weights import Adapter
from cory.team.agent import Agent

ITERATIONS = 5
"""In a row, with equal rewards or answers cut off, after which there is a warning."""
ITERATIONS_TO_MOVE = 10
"""After the warm-up, in which the policy should have moved."""
MIN_KL_PER_TOKEN = 1e-4
"""Nats. A policy below it answers as the initial model does."""
MIN_ENDED_SHARE = 0.05
"""Share of answers that come to an end."""
FULL_WEIGHTS_RATE = 1e-5
"""A learning rate for full weights of a large model; adapters take some ten times as much."""
EQUAL = 1e-6
"""Standard deviation of equal rewards, over their size: what rounding leaves."""
CONTINUATIONS = frozenset({"imdb", "pocket-reviews"})
"""Tasks whose answers go on with a text, and are meant to be cut off."""


class Standstill:
    """Watches a run for signs that its agents learn nothing.

    Args:
        agents: of the team.
        args: settings.
    """

    def __init__(self, agents: Sequence[Agent], args: CORYConfig) -> None:
        self.agents = agents
        self.args = args
        self.counts: Counter[str] = Counter()
        """Iterations in a row with a sign, by agent and sign."""
        self.told: set[str] = set()

    def before(self) -> list[str]:
        """Warnings of settings that do not fit together; told when training starts."""
        args, found = self.args, []
        rate = max(map(self._rate, self.agents))
        has_adapters = any(isinstance(agent.policy.weights, Adapter) for agent in self.agents)
        if has_adapters and 0 < rate <= FULL_WEIGHTS_RATE:
            found.append(
                f"learning_rate={args.learning_rate} is one for full weights, and these agents are "
                f"adapters, which take some ten times as much: set learning_rate={10 * rate:g}"
            )
        if args.num_generations > 1 and args.advantage_estimator == "gae":
            found.append(
                f"num_generations={args.num_generations} with advantage_estimator='gae' compares "
                "no answers to one query with each other: set advantage_estimator='leave_one_out' "
                "or 'group', or num_generations=1 for more queries"
            )
        return [f"cory: warning: {text}" for text in found]

    def after(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Warnings of an iteration, each at most once per agent.

        Args:
            step: of the iteration, from 1 on.
            metrics: of the iteration, by `agent_0/kl_per_token` and the like.
        """
        lines = []
        for agent in self.agents:
            prefix = f"{agent.name}/"
            own = {
                key.removeprefix(prefix): value
                for key, value in metrics.items()
                if key.startswith(prefix)
            }
            for sign, text in self._signs(agent, own).items():
                name, limit = f"{prefix}{sign}", self._limit(sign)
                self.counts[name] = self.counts[name] + 1 if text else 0
                if self.counts[name] >= limit and name not in self.told:
                    self.told.add(name)
                    lines.append(
                        f"cory: warning: {agent.name} may learn nothing: in {limit} iterations up "
                        f"to {step}, {text}"
                    )
        return lines

    def _signs(self, agent: Agent, own: Mapping[str, float]) -> dict[str, str | None]:
        """What an agent's numbers of one iteration are a sign of, in words; None: of nothing."""
        args, kl, std = self.args, own["kl_per_token"], own["task_reward_std"]
        reward, ended = own["task_reward"], own["ended_share"]
        stands_still = kl < MIN_KL_PER_TOKEN and self._rate(agent) > 0
        # The task says that its answers have no end; leaving all of them out is another matter.
        is_meant = args.task in CONTINUATIONS and not args.mask_truncated_completions
        is_cut_off = ended < MIN_ENDED_SHARE and not is_meant
        are_equal = args.batch_size > 1 and std <= EQUAL * max(1.0, abs(reward))
        return {
            "kl": f"it stayed the initial model (KL per token {kl:.2g}, below {MIN_KL_PER_TOKEN}): "
            f"raise learning_rate, which is {self._rate(agent):g}, or lower kl_coef"
            if stands_still
            else None,
            "reward": f"all its answers earned the same ({reward:.4g}): there is nothing to prefer;"
            " choose a reward that tells answers apart, or queries that it sometimes solves"
            if are_equal
            else None,
            "end": f"{1 - ended:.0%} of its answers were cut off at the maximum length: raise "
            f"max_completion_length, which is {args.max_completion_length}, or check its "
            "end-of-sequence token and stop_strings"
            if is_cut_off
            else None,
        }

    def _limit(self, sign: str) -> int:
        """Iterations in a row after which a sign is told."""
        return ITERATIONS_TO_MOVE + self.args.warmup_steps if sign == "kl" else ITERATIONS

    def _rate(self, agent: Agent) -> float:
        rates = self.args.learning_rate
        return rates[agent.index % len(rates)] if isinstance(rates, list) else rates
