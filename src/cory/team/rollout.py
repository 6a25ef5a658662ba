"""Rollout of the team over a batch of queries: speak in order, score, pay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cory.algorithm.seeding import derive_generator, derive_seed
from cory.config import CORYConfig
from cory.generation.local import Sampler, answer_each
from cory.models.batch import Batch, make_batch
from cory.models.policy import LanguageModel, Policy
from cory.models.scoring import TokenScorer, TokenScores
from cory.rewards.scoring import RewardScorer, Scores
from cory.team.prompts import PromptEncoder
from cory.team.roles import reward_matrix, roles_at
from cory.team.transfer import KnowledgeTransfer
from cory.team.types import Generation, Iteration, RolloutRecord


@dataclass(eq=False)
class Rollout:
    """Lets the team answer queries and turns the answers into records to learn from.

    `policies` are the weights by agent number. `transfer` says whether later speakers see the
    earlier answers.
    """

    policies: Sequence[Policy]
    encoder: PromptEncoder
    sampler: Sampler
    scorer: TokenScorer
    rewards: RewardScorer
    args: CORYConfig

    def __post_init__(self) -> None:
        args = self.args
        self.transfer = KnowledgeTransfer(args.knowledge_transfer, args.transfer_min_lift)
        self.reward_matrix = torch.tensor(
            reward_matrix(args.num_agents, args.partner_reward_weight)
        )

    def run(self, rows: Sequence[dict[str, Any]], step: int) -> Iteration:
        """One rollout: every agent answers every query in the order of speaking of `step`.

        Args:
            rows: of the data set; each gets `num_generations` answers, in consecutive rows.
            step: of the iteration, from 0 on.
        """
        rows = [row for row in rows for _ in range(self.args.num_generations)]
        spoken = self._speak(rows, step)
        task_rewards = [
            self.rewards.score(rows, generation.completions, generation.response_ids)
            for generation, *_ in spoken
        ]
        team_rewards = share_rewards(
            [reward.total for reward in task_rewards],
            self.reward_matrix,
            self.args.num_generations,
        )
        records = [
            self._record(*parts) for parts in zip(spoken, task_rewards, team_rewards, strict=True)
        ]
        self.transfer.follow(records)
        return Iteration(step, rows, records)

    def response_length(self, step: int) -> int:
        """New tokens per answer in this iteration: one length for the whole batch."""
        longest = self.args.max_completion_length
        shortest = self.args.min_completion_length or longest
        return shortest + derive_seed(self.args.seed, "length", step) % (longest - shortest + 1)

    def _speak(
        self, rows: Sequence[dict[str, Any]], step: int
    ) -> list[tuple[Generation, Batch, TokenScores]]:
        """One speaker after the other, or, where nobody sees an answer, all at once."""
        order = roles_at(step, self.args.num_agents, self.args.role_exchange_period)
        roles = range(len(order))
        groups = [[role] for role in roles] if self.transfer.is_on else [list(roles)]
        spoken: list[tuple[Generation, Batch, TokenScores]] = []
        for group in groups:
            visible = [generation for generation, *_ in spoken]
            prompt_ids = [
                self.encoder.encode(
                    row[self.args.prompt_column],
                    [earlier.response_ids[index] for earlier in visible],
                )
                for index, row in enumerate(rows)
            ]
            speakers = {role: order[role] for role in group}
            spoken += self._answer(speakers, prompt_ids, len(visible), step)
        return spoken

    def _answer(
        self,
        speakers: Mapping[int, int],
        prompt_ids: list[list[int]],
        num_references: int,
        step: int,
    ) -> list[tuple[Generation, Batch, TokenScores]]:
        """Let speakers answer the same prompts, each with its own random numbers, and score them.

        The hidden states that sampling keeps for scoring are gone when this returns.

        Args:
            speakers: agents by role.
            prompt_ids: what they are asked.
            num_references: earlier answers that each prompt shows.
            step: of the iteration.
        """
        policies = [self.policies[agent] for agent in speakers.values()]
        answers = answer_each(
            self.sampler,
            policies,
            [prompt_ids] * len(policies),
            self.response_length(step),
            self.args.temperature,
            [
                derive_generator(self.args.seed, "sampling", step, agent, device=policy.device)
                for agent, policy in zip(speakers.values(), policies, strict=True)
            ],
        )
        spoken = []
        for (role, agent), policy, answer in zip(speakers.items(), policies, answers, strict=True):
            texts = self.encoder.decode(answer.token_ids)
            said = (prompt_ids, answer.token_ids, texts, answer.logprobs, num_references)
            generation = Generation(agent, role, *said, self.encoder.have_ended(answer.token_ids))
            batch = make_batch(prompt_ids, answer.token_ids, policy.device)
            hidden = answer.hidden if keeps_hidden(policy, self.args) else None
            scores = self.scorer.score(policy, batch, hidden)
            spoken.append((generation, batch, scores))
        return spoken

    def _record(
        self,
        spoken: tuple[Generation, Batch, TokenScores],
        task_reward: Scores,
        team_reward: Float[Tensor, " B"],
    ) -> RolloutRecord:
        generation, batch, scores = spoken
        device = self.policies[generation.agent].device
        team_reward = team_reward.to(device)
        return RolloutRecord(
            generation=generation,
            batch=batch,
            scores=scores,
            task_reward=task_reward.total.to(device),
            team_reward=team_reward,
            scaled_reward=team_reward,
            reward_parts=task_reward.means,
            logged=task_reward.logged,
            logged_columns=task_reward.columns,
            is_masked=self._masked(generation, device),
        )

    def _masked(self, generation: Generation, device: torch.device) -> Bool[Tensor, " B"] | None:
        if not self.args.mask_truncated_completions:
            return None
        return ~torch.tensor(generation.has_ended, device=device)


def keeps_hidden(policy: LanguageModel, args: CORYConfig) -> bool:
    """Whether answers are scored from what sampling computed, not in a pass of their own."""
    if args.recompute_logprobs is None:
        return policy.samples_as_scored
    return not args.recompute_logprobs


def share_rewards(
    task_rewards: Sequence[Float[Tensor, " B"]],
    reward_matrix: Float[Tensor, "N N"],
    num_generations: int = 1,
) -> Float[Tensor, "N B"]:
    """What each speaker is paid for each of its answers (Eq 4).

    An answer that was declined (NaN) is paid nothing (NaN): nothing is learnt from it. In the
    partners' sums its place is taken by the mean of the same speaker's other answers to the query,
    or, where none was paid, of all its answers: so a partner neither gains nor loses by it. A sum
    without it would be smaller than those that it is compared with.

    Args:
        task_rewards: of each role, NaN where the answer was declined.
        reward_matrix: see `roles.reward_matrix`.
        num_generations: answers to a query, in consecutive rows.
    """
    rewards = torch.stack(list(task_rewards))
    by_query = rewards.view(len(rewards), -1, num_generations).nanmean(2)
    neutral = by_query.repeat_interleave(num_generations, 1)
    for mean in (rewards.nanmean(1, keepdim=True), torch.zeros(1)):
        neutral = torch.where(neutral.isnan(), mean, neutral)
    shared = reward_matrix @ torch.where(rewards.isnan(), neutral, rewards)
    return shared.masked_fill(rewards.isnan(), math.nan)
