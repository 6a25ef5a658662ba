"""Evaluation of each agent alone on held-out plain queries: reward, pass@k, KL, diversity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from cory.algorithm.losses import masked_mean
from cory.algorithm.seeding import derive_generator
from cory.config import CORYConfig
from cory.generation.local import Sampler, answer_each
from cory.generation.mixed_adapters import can_be_mixed
from cory.models.batch import make_batch
from cory.models.policy import Policy
from cory.models.scoring import TokenScorer, TokenScores
from cory.models.weights import MERGED
from cory.rewards.scoring import RewardScorer
from cory.team.averaging import merged
from cory.team.known_answers import Answered, KnownAnswers, is_known_by_content
from cory.team.metrics import confidence_interval, diversity, mean_of, none_for_nan
from cory.team.prompts import PromptEncoder

LARGEST_K = 5


@dataclass(frozen=True)
class Evaluation:
    """What one agent did on the held-out queries; `completions` has num_samples rows per query."""

    metrics: dict[str, float]
    rows: list[dict[str, Any]]
    completions: list[str]
    task_rewards: list[float | None]
    """None: every reward function declined the answer."""


@dataclass(frozen=True)
class Evaluator:
    """Everything an evaluation needs but the policy.

    All policies get the same queries, lengths and random numbers, so that their differences are
    their own. Responses are `max_completion_length` long at most.
    """

    encoder: PromptEncoder
    sampler: Sampler
    scorer: TokenScorer
    rewards: RewardScorer
    args: CORYConfig

    def evaluate_each(
        self,
        policies: Mapping[str, Policy],
        queries: Sequence[dict[str, Any]],
        known: KnownAnswers | None = None,
    ) -> dict[str, Evaluation]:
        """Each agent alone and, with `evaluate_merged`, the mean of their weights as `merged`.

        Args:
            policies: agents by name.
            queries: rows of the held-out data set.
            known: where to look for answers of equal models; None: all answer.
        """
        num_samples, everybody = self.args.num_eval_samples, list(policies.values())
        # Keeping all agents' hidden states at once is worth it where they are decoded together.
        groups = [everybody] if can_be_mixed(everybody) else [[policy] for policy in everybody]
        found = [
            one for group in groups for one in self._evaluate(group, queries, num_samples, known)
        ]
        evaluations = dict(zip(policies, found, strict=True))
        if self.args.evaluate_merged:
            with merged(list(policies.values())) as mean:
                evaluations[MERGED] = self.evaluate(mean, queries, num_samples)
        return evaluations

    def evaluate(
        self, policy: Policy, queries: Sequence[dict[str, Any]], num_samples: int
    ) -> Evaluation:
        """Answer every query `num_samples` times and measure the answers.

        Args:
            policy: used alone, on `query_template`.
            queries: rows of the held-out data set.
            num_samples: answers per query; pass@k needs at least k.
        """
        return self._evaluate([policy], queries, num_samples)[0]

    def _evaluate(
        self,
        policies: Sequence[Policy],
        queries: Sequence[dict[str, Any]],
        num_samples: int,
        known: KnownAnswers | None = None,
    ) -> list[Evaluation]:
        """Evaluate policies whose answers are sampled together."""
        rows = [row for row in queries for _ in range(num_samples)]
        prompt_ids = [self.encoder.encode(row[self.args.prompt_column], []) for row in rows]
        request = None if known is None else self._request(known, policies, prompt_ids)
        if known is None or request is None:
            answered = self._answer(policies, prompt_ids, num_samples)
        else:
            request["num_samples"] = num_samples
            shape = len(policies), len(rows)
            answered = known.get(
                request, shape, lambda: self._answer(policies, prompt_ids, num_samples)
            )
        return [self._measure(rows, one, num_samples) for one in answered]

    def _request(
        self,
        known: KnownAnswers,
        policies: Sequence[Policy],
        prompt_ids: Sequence[Sequence[int]],
    ) -> dict[str, Any] | None:
        """What makes the answers of these policies; None where something is not known by content.

        Of the tokenizer, only the prompts' ids and stop strings have a part in them.
        """
        sampler, stops = self.sampler, self.encoder.stop_strings
        backend = getattr(self.encoder.tokenizer, "backend_tokenizer", None) if stops else None
        if not is_known_by_content(sampler, policies) or (stops and backend is None):
            return None
        return {
            "policies": [known.digest(policy) for policy in policies],
            "reference": known.digest(self.scorer.reference),
            "prompts": prompt_ids,
            "end_ids": sorted(sampler.end_ids),
            "rows_per_pass": sampler.rows_per_pass,
            "stops": backend and [stops, backend.to_str()],
        }

    def _answer(
        self, policies: Sequence[Policy], prompt_ids: Sequence[Sequence[int]], num_samples: int
    ) -> list[Answered]:
        """Sample each policy's answers and score them; rewards are none of this."""
        args = self.args
        answers = answer_each(
            self.sampler,
            policies,
            [prompt_ids] * len(policies),
            args.max_completion_length,
            args.temperature,
            [derive_generator(args.seed, "evaluation", device=one.device) for one in policies],
        )
        answered = []
        for policy, one in zip(policies, answers, strict=True):
            batch = make_batch(prompt_ids, one.token_ids, policy.device)
            scores = self.scorer.score(policy, batch, one.hidden)
            numbers = score_metrics(scores, batch.response_mask, num_samples)
            answered.append(Answered(one.token_ids, numbers))
        return answered

    def _measure(
        self, rows: Sequence[dict[str, Any]], answered: Answered, num_samples: int
    ) -> Evaluation:
        response_ids = answered.response_ids
        completions = self.encoder.decode(response_ids)
        paid = self.rewards.score(rows, completions, response_ids)
        metrics = {
            **reward_metrics(paid.total.view(-1, num_samples)),
            **{f"reward/{name}": mean for name, mean in paid.means.items()},
            **{f"logged/{name}": mean for name, mean in paid.logged.items()},
            **answered.scores,
            **diversity(response_ids),
            "ended_share": mean_of(self.encoder.have_ended(response_ids)),
        }
        return Evaluation(metrics, list(rows), completions, none_for_nan(paid.total))


def reward_metrics(rewards: Float[Tensor, "Q S"]) -> dict[str, float]:
    """Mean reward and half its 95% interval over Q queries; pass@k if every reward is 0 or 1.

    Answers that were declined (NaN) are left out and counted; a query with fewer than k others has
    no part in pass@k.
    """
    is_paid = ~rewards.isnan()
    by_query = rewards.nanmean(1)
    metrics = {
        "task_reward": float(rewards[is_paid].mean()),
        "task_reward_ci95": confidence_interval(by_query[~by_query.isnan()]),
        "declined_answers": float((~is_paid).sum()),
    }
    if bool(((rewards == 0) | (rewards == 1) | ~is_paid).all()):
        counts = list(zip(is_paid.sum(1).tolist(), rewards.nansum(1).tolist(), strict=True))
        for k in range(1, min(LARGEST_K, rewards.shape[1]) + 1):
            chances = [pass_at_k(paid, int(right), k) for paid, right in counts if paid >= k]
            metrics |= {f"pass@{k}": mean_of(chances)} if chances else {}
    return metrics


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Chance that at least one of k answers, drawn without replacement, is correct.

    1 − C(n − c, k) / C(n, k), the unbiased estimate of Chen et al. 2021 (arXiv 2107.03374, Eq 1).

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 4), pass_at_k(4, 2, 2)
    (0.25, 1.0, 0.8333333333333334)
    """
    return 1 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def score_metrics(
    scores: TokenScores, response_mask: Bool[Tensor, "B T"], num_samples: int
) -> dict[str, float]:
    """KL to the initial model and signs of collapse; `num_samples` neighbours share a query.

    The interval is over queries, since answers to one query are not independent.
    """
    kl = scores.full_kl.sum(1).view(-1, num_samples)
    return {
        "kl": float(kl.mean()),
        "kl_ci95": confidence_interval(kl.mean(1)),
        "kl_per_token": float(masked_mean(scores.full_kl, response_mask)),
        "entropy": float(masked_mean(scores.entropy, response_mask)),
        "ref_perplexity": math.exp(-float(masked_mean(scores.ref_logprobs, response_mask))),
        "completion_length": float(response_mask.sum(1).float().mean()),
    }


def metrics_of_sets(
    sets: Mapping[str, Mapping[str, Evaluation]], agents: Sequence[str]
) -> dict[str, float]:
    """Metrics of the first set as `metrics_of_all` has them, and of each with a name also below it.

    Args:
        sets: of held-out queries by name; the empty name is none.
        agents: as in `metrics_of_all`.
    """
    by_set = {name: metrics_of_all(evaluations, agents) for name, evaluations in sets.items()}
    named = {
        f"{name}/{key}": value
        for name, metrics in by_set.items()
        if name
        for key, value in metrics.items()
    }
    return next(iter(by_set.values())) | named


def metrics_of_all(
    evaluations: Mapping[str, Evaluation], agents: Sequence[str]
) -> dict[str, float]:
    """Metrics by `agent_0/task_reward` and the like, and their means over agents.

    Args:
        evaluations: by name.
        agents: the names whose mean counts; `merged`, which is none of them, has no part in it.
    """
    metrics = {
        f"{name}/{key}": value
        for name, evaluation in evaluations.items()
        for key, value in evaluation.metrics.items()
    }
    return metrics | means_over(agents, metrics)


def means_over(agents: Sequence[str], metrics: Mapping[str, float]) -> dict[str, float]:
    """The mean over agents of each metric that all have, by `task_reward` and the like.

    >>> means_over(["agent_0", "agent_1"], {"agent_0/kl": 1.0, "agent_1/kl": 3.0, "agent_1/x": 1.0})
    {'kl': 2.0}
    """
    first = f"{agents[0]}/"
    keys = [key.removeprefix(first) for key in metrics if key.startswith(first)]
    return {
        key: mean_of(metrics[f"{agent}/{key}"] for agent in agents)
        for key in keys
        if all(f"{agent}/{key}" in metrics for agent in agents)
    }
