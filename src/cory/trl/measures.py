"""What is measured in an iteration, under the names that TRL's trainers log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cory.algorithm.losses import KL_ESTIMATORS, masked_mean
from cory.config import CORYConfig
from cory.rewards.scoring import Scores
from cory.team.types import Iteration, RolloutRecord


class Hearing:
    """A `Rollout` that keeps what it returned last, and what the reward functions paid for it."""

    def __init__(self, rollout: Any) -> None:
        self.rollout = rollout
        self.iteration: Iteration | None = None
        self.scores: list[Scores] = []
        self.num_tokens = 0
        self._score = rollout.rewards.score
        rollout.rewards.score = self._hear

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rollout, name)

    def _hear(self, *given: Any) -> Scores:
        paid = self._score(*given)
        self.scores.append(paid)
        return paid

    def run(self, rows: Sequence[dict[str, Any]], step: int) -> Iteration:
        """One rollout of the team."""
        self.scores.clear()
        iteration: Iteration = self.rollout.run(rows, step)
        self.iteration = iteration
        for record in iteration.records:
            self.num_tokens += int(record.batch.lengths.sum())
        return iteration


def measures(heard: Hearing, metrics: Mapping[str, float], args: CORYConfig) -> dict[str, float]:
    """An iteration's numbers, over the answers of all agents.

    Args:
        heard: the iteration.
        metrics: cory's own, by `agent_0/kl` and the like.
        args: settings.
    """
    assert heard.iteration is not None, "an iteration was run"
    records = heard.iteration.records
    agents = [f"agent_{index}" for index in range(args.num_agents)]
    rewards = torch.cat([record.task_reward for record in records]).float()
    groups = rewards.view(-1, args.num_generations)
    return {
        "loss": _mean(_loss(metrics, agent, args) for agent in agents),
        "grad_norm": _mean(metrics.get(f"{agent}/grad_norm", math.nan) for agent in agents),
        "num_tokens": float(heard.num_tokens),
        **_lengths(records),
        **_rewards(heard.scores),
        "reward": float(rewards.nanmean()),
        "reward_std": _std(rewards),
        "frac_reward_zero_std": _mean(float(_std(group) == 0) for group in groups),
        "kl": _kl(records, args),
        "entropy": _over(records, [record.scores.entropy for record in records]),
        "clip_ratio/region_mean": _mean(
            metrics.get(f"{agent}/clip_fraction", math.nan) for agent in agents
        ),
        "step_time": metrics["seconds/rollout"] + metrics["seconds/update"],
        **({} if args.num_agents == 1 else _by_agent(metrics, agents)),
    }


def evaluation_measures(metrics: Mapping[str, float], max_length: int) -> dict[str, float]:
    """An evaluation's numbers under TRL's names, where it has one; others keep cory's.

    >>> evaluation_measures({"task_reward": 1.0, "reward/length": 1.0, "lift": 2.0}, 8)
    {'reward': 1.0, 'rewards/length/mean': 1.0, 'lift': 2.0}
    """
    names = {"task_reward": "reward", "completion_length": "completions/mean_length"}
    found = {}
    for key, value in metrics.items():
        if key == "ended_share":
            found["completions/clipped_ratio"] = 1 - value
        elif key.startswith("reward/"):
            found[f"rewards/{key.removeprefix('reward/')}/mean"] = value
        else:
            found[names.get(key, key)] = value
    return found


def classic_measures(
    metrics: Mapping[str, float], own: Mapping[str, float], args: CORYConfig
) -> dict[str, float]:
    """The names of PPO in TRL 0.12 to 1.15 for an iteration's numbers."""
    first = {
        key.removeprefix("agent_0/"): value
        for key, value in metrics.items()
        if key.startswith("agent_0/")
    }
    return {
        "objective/kl": first["kl_sampled"],
        "objective/entropy": first["entropy"] * first["completion_length"],
        "objective/non_score_reward": -args.kl_coef * first["kl_sampled"],
        "objective/rlhf_reward": own["reward"] - args.kl_coef * first["kl_sampled"],
        "objective/scores": own["reward"],
        "policy/approxkl_avg": first.get("approx_kl", math.nan),
        "policy/clipfrac_avg": first.get("clip_fraction", math.nan),
        "policy/entropy_avg": first["entropy"],
        "loss/policy_avg": first.get("policy_loss", math.nan),
        "loss/value_avg": first.get("value_loss", math.nan),
        "val/clipfrac_avg": first.get("value_clip_fraction", math.nan),
        "episode": metrics["total_samples"],
    }


def averages(history: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number over iterations, of those that have it; counts stay the last one."""
    values: dict[str, list[float]] = {}
    for measured in history:
        for key, value in measured.items():
            values.setdefault(key, []).append(value)
    last = {"num_tokens", "episode"}
    return {key: found[-1] if key in last else _mean(found) for key, found in values.items()}


def _loss(metrics: Mapping[str, float], agent: str, args: CORYConfig) -> float:
    weights = {
        "policy_loss": 1.0,
        "kl_loss": metrics.get(f"{agent}/kl_coef", args.kl_coef),
        "value_loss": args.vf_coef,
        "entropy_loss": args.entropy_coef,
    }
    names = {name: f"{agent}/{name}" for name in weights}
    parts = [weights[name] * metrics[key] for name, key in names.items() if key in metrics]
    return sum(parts) if parts else math.nan


def _lengths(records: Sequence[RolloutRecord]) -> dict[str, float]:
    lengths = torch.cat([record.batch.response_mask.sum(1) for record in records]).float()
    ended = torch.tensor([one for record in records for one in record.generation.has_ended])
    found = {f"completions/{key}": value for key, value in _spread(lengths, "length").items()}
    found["completions/clipped_ratio"] = float((~ended).float().mean())
    terminated = lengths[ended.to(lengths.device)]
    spread = _spread(terminated if len(terminated) else torch.zeros(1), "terminated_length")
    return found | {f"completions/{key}": value for key, value in spread.items()}


def _spread(values: Tensor, name: str) -> dict[str, float]:
    return {
        f"mean_{name}": float(values.mean()),
        f"min_{name}": float(values.min()),
        f"max_{name}": float(values.max()),
    }


def _rewards(scores: Sequence[Scores]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in scores[0].by_function if scores else ():
        values = torch.cat([paid.by_function[name] for paid in scores])
        found |= {
            f"rewards/{name}/mean": float(values.nanmean()),
            f"rewards/{name}/std": _std(values),
        }
    logged = {key for paid in scores for key in paid.logged}
    means = {
        key: _mean(paid.logged[key] for paid in scores if key in paid.logged) for key in logged
    }
    return found | means


def _kl(records: Sequence[RolloutRecord], args: CORYConfig) -> float:
    """The KL to the initial model per token, by the estimator of the settings, when sampled."""
    if args.kl_estimator == "full":
        return _over(records, [record.scores.full_kl for record in records])
    estimate = KL_ESTIMATORS[args.kl_estimator]
    return _over(
        records,
        [estimate(record.scores.logprobs, record.scores.ref_logprobs) for record in records],
    )


def _over(records: Sequence[RolloutRecord], values: Sequence[Tensor]) -> float:
    """The mean over the response tokens of all records."""
    means = [
        float(masked_mean(value, record.batch.response_mask))
        for record, value in zip(records, values, strict=True)
    ]
    counts = [float(record.batch.num_tokens) for record in records]
    return sum(map(lambda mean, count: mean * count, means, counts)) / sum(counts)


def _by_agent(metrics: Mapping[str, float], agents: Sequence[str]) -> dict[str, float]:
    names = {"task_reward": "reward", "kl_per_token": "kl", "completion_length": "mean_length"}
    return {
        f"{agent}/{name}": metrics[f"{agent}/{key}"]
        for agent in agents
        for key, name in names.items()
    }


def _std(values: Tensor) -> float:
    """With N − 1, of those that are numbers; 0 for a single one."""
    known = values[~values.isnan()]
    return float(known.std()) if len(known) > 1 else 0.0


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
