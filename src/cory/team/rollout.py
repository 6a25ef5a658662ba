"""One pass of the team over a batch of queries: speak in order, pay, score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cory.algorithm.seeding import derive_generator, derive_seed
from cory.config import CORYConfig
from cory.distributed.world import ALONE, World
from cory.generation.local import Sampler, answer_each
from cory.models.batch import make_batch
from cory.models.loading import pad_id
from cory.models.policy import LanguageModel, Policy
from cory.models.scoring import score
from cory.rewards.calling import RewardFunc
from cory.rewards.failures import RewardFailures
from cory.rewards.scoring import Scores, score_completions
from cory.team.kl_penalty import KL_PENALTIES, KL_PLACEMENTS
from cory.team.prompts import PromptEncoder
from cory.team.roles import answers_at, reward_matrix, roles_at
from cory.team.transfer import KnowledgeTransfer
from cory.team.types import Experience, Iteration, Turn


class Rollout:
    """Lets the team answer queries and turns the answers into experience.

    Its `transfer` says whether later speakers see the earlier answers.

    Args:
        policies: weights by agent number.
        reference: the frozen initial model.
        encoder: makes prompts.
        sampler: answers them.
        reward_funcs: judge the answers.
        tokenizer: of the policies.
        args: settings.
        world: who does which rows; every process gets the whole iteration.
        failures: the rule for reward functions that fail; None: the first failure is an error.
    """

    def __init__(
        self,
        policies: Sequence[Policy],
        reference: LanguageModel,
        encoder: PromptEncoder,
        sampler: Sampler,
        reward_funcs: Sequence[RewardFunc],
        tokenizer: PreTrainedTokenizerBase,
        args: CORYConfig,
        world: World = ALONE,
        failures: RewardFailures | None = None,
    ) -> None:
        self.policies = policies
        self.reference = reference
        self.encoder = encoder
        self.sampler = sampler
        self.reward_funcs = reward_funcs
        self.tokenizer = tokenizer
        self.args = args
        self.transfer = KnowledgeTransfer.from_config(args)
        self.world = world
        self.failures = failures
        self.reward_matrix = torch.tensor(
            reward_matrix(args.num_agents, args.partner_reward_weight, args.credit)
        )

    def run(self, rows: Sequence[dict[str, Any]], step: int) -> Iteration:
        """One rollout: every agent answers every query in the order of speaking of `step`.

        Args:
            rows: of the data set; each gets `num_generations` answers, in consecutive rows, and
                an observer sees the earlier answers of its own row, which it answers
                `observer_generations` times, in consecutive rows too.
        """
        rows = [row for row in rows for _ in range(self.args.num_generations)]
        order = roles_at(step, self.args.num_agents, self.args.role_exchange_period)
        turns = self._speak(rows, order, step)
        judgements = [self._judge(self._rows_at(turn.place, rows), turn) for turn in turns]
        team_rewards = share_rewards(
            [judgement.total for judgement in judgements], self.reward_matrix
        )
        experiences = [
            self._score(*answered) for answered in zip(turns, judgements, team_rewards, strict=True)
        ]
        self.transfer.follow(experiences)
        queries = [row[self.args.prompt_column] for row in rows]
        return Iteration(step, queries, experiences)

    def response_length(self, step: int) -> int:
        """New tokens per answer in this iteration: one length for the whole batch."""
        longest = self.args.max_completion_length
        shortest = self.args.min_completion_length or longest
        return shortest + derive_seed(self.args.seed, "length", step) % (longest - shortest + 1)

    def _speak(
        self, rows: Sequence[dict[str, Any]], order: tuple[int, ...], step: int
    ) -> list[Turn]:
        """One speaker after the other, or, where nobody sees an answer, all at once."""
        places = range(len(order))
        groups = [[place] for place in places] if self.transfer.is_on else [list(places)]
        turns: list[Turn] = []
        for group in groups:
            agents = [order[place] for place in group]
            policies = [self.policies[agent] for agent in agents]
            prompt_ids = [self._prompts(place, rows, turns) for place in group]
            answers = answer_each(
                self.sampler,
                policies,
                prompt_ids,
                self.response_length(step),
                self.args.temperature,
                [
                    derive_generator(self.args.seed, "sampling", step, agent, device=policy.device)
                    for agent, policy in zip(agents, policies, strict=True)
                ],
            )
            turns += [
                Turn(
                    agent,
                    place,
                    prompts,
                    answer.token_ids,
                    self.encoder.decode(answer.token_ids),
                    answer.hidden,
                    answer.logprobs,
                    num_references=len(turns),
                )
                for agent, place, prompts, answer in zip(
                    agents, group, prompt_ids, answers, strict=True
                )
            ]
        return turns

    def _prompts(
        self, place: int, rows: Sequence[dict[str, Any]], visible: Sequence[Turn]
    ) -> list[list[int]]:
        """What the speaker at a place is asked, the answers that it may see included."""
        asked = self._rows_at(place, rows)
        return [
            self.encoder.encode(
                row[self.args.prompt_column],
                [turn.response_ids[index // (len(asked) // len(turn))] for turn in visible],
            )
            for index, row in enumerate(asked)
        ]

    def _rows_at(self, place: int, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the speaker at a place answers: one entry per answer."""
        times = answers_at(place, self.args.observer_generations)
        return [row for row in rows for _ in range(times)]

    def _judge(self, rows: Sequence[dict[str, Any]], turn: Turn) -> Scores:
        answers = turn.completions, turn.response_ids
        return judge(self.reward_funcs, rows, *answers, self.args, self.world, self.failures)

    def _score(self, turn: Turn, judgement: Scores, team_reward: torch.Tensor) -> Experience:
        policy, args = self.policies[turn.agent], self.args
        batch = make_batch(
            turn.prompt_ids, turn.response_ids, pad_id(self.tokenizer), policy.device
        )
        in_loss = KL_PLACEMENTS[args.kl_placement].in_loss
        scores = score(
            policy,
            self.reference,
            batch,
            args.temperature,
            args.per_device_eval_batch_size,
            hidden=None if recomputes_logprobs(args) else turn.hidden,
            keep_ref_hidden=in_loss and KL_PENALTIES[args.kl_estimator].needs_ref_hidden,
            world=self.world,
        )
        return Experience(
            turn=turn,
            batch=batch,
            scores=scores,
            task_reward=judgement.total.to(policy.device),
            team_reward=team_reward.to(policy.device),
            reward_parts=judgement.means,
        )


def recomputes_logprobs(args: CORYConfig) -> bool:
    """Whether answers are scored in a pass of their own; see `CORYConfig.recompute_logprobs`."""
    if args.recompute_logprobs is not None:
        return args.recompute_logprobs
    another_engine = args.vllm_server_base_url is not None
    return another_engine or args.load_in_4bit or args.dtype != "float32"


def share_rewards(
    task_rewards: Sequence[Float[Tensor, " _"]], reward_matrix: Float[Tensor, "N N"]
) -> list[Float[Tensor, " _"]]:
    """What each speaker is paid for each of its answers (Eq 4).

    An answer that several answers of a later speaker follow is paid its share of their mean.

    Args:
        task_rewards: of each place; a later one may have several answers for one of an earlier.
        reward_matrix: see `roles.reward_matrix`.
    """
    most = max(map(len, task_rewards))
    aligned = torch.stack(
        [reward.repeat_interleave(most // len(reward)) for reward in task_rewards]
    )
    paid = reward_matrix @ aligned
    return [
        row.view(len(reward), -1).mean(1) for row, reward in zip(paid, task_rewards, strict=True)
    ]


def judge(
    reward_funcs: Sequence[RewardFunc],
    rows: Sequence[dict[str, Any]],
    completions: list[str],
    completion_ids: list[list[int]],
    args: CORYConfig,
    world: World = ALONE,
    failures: RewardFailures | None = None,
) -> Scores:
    """Rewards of one completion per row, under the plain query (r(s0, a), for observers too).

    Each process of the world pays its part of the rows, and all get all rewards.
    """
    count, own = len(rows), world.part(len(rows))
    rows, completions, completion_ids = rows[own], completions[own], completion_ids[own]
    queries = [row[args.prompt_column] for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != args.prompt_column}
    failures = failures or RewardFailures()
    failed_before = failures.count
    with world.together():
        scores = score_completions(
            reward_funcs,
            args.reward_weights,
            queries,
            completions,
            completion_ids,
            columns,
            failures,
        )
    failures.count = failed_before + sum(world.gather(failures.count - failed_before))
    return scores.joined(world, count)
