"""One agent: its weights, its way of learning, and all state that stays with it at an exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from cory.algorithm import losses
from cory.algorithm.advantages import ESTIMATORS
from cory.algorithm.seeding import derive_generator
from cory.config import CORYConfig
from cory.distributed.fsdp import at_hand, whole
from cory.distributed.memory import PassSize
from cory.distributed.world import ALONE, World
from cory.models.policy import LanguageModel, Policy
from cory.models.scoring import score
from cory.models.weights import replaced
from cory.team.auxiliary import Lesson, better_answers, importance_of, plain_samples, select_each
from cory.team.averaging import WeightAverage
from cory.team.controllers import KL_CONTROLLERS, ElasticReset, RewardScaler
from cory.team.engines import behaviour_logprobs, settle_engine
from cory.team.kl_penalty import KL_PENALTIES, KL_PLACEMENTS
from cory.team.metrics import averages, combined, explained_variance
from cory.team.nonfinite import LARGEST_RUN_OF_SKIPS, is_finite, not_finite
from cory.team.roles import group_size_at
from cory.team.types import Experience
from cory.team.update import Loss, add_gradients, lesson_loss


@dataclass
class AgentState:
    """What an agent remembers beside its weights and the optimizer's moments."""

    kl_coef: float
    reward_scalers: dict[str, RewardScaler] = field(default_factory=dict)
    skips_in_a_row: int = 0
    """Updates since the last one that was finite."""
    alarms_in_a_row: int = 0
    """Iterations since the last one without an alarm."""

    def reward_scaler(self, role: str) -> RewardScaler:
        return self.reward_scalers.setdefault(role, RewardScaler())


class Agent:
    """Learns from its own samples by PPO, or by another estimator inside PPO's clipped update.

    Args:
        index: number of the agent; its name is `agent_{index}`.
        policy: its weights.
        reference: the frozen initial model.
        optimizer: shared by the team; in an agent's step its gradients are the only ones, so only
            its parameters and moments move.
        args: settings.
        world: who backpropagates which rows.
    """

    def __init__(
        self,
        index: int,
        policy: Policy,
        reference: LanguageModel,
        optimizer: Optimizer,
        args: CORYConfig,
        world: World = ALONE,
    ) -> None:
        self.index = index
        self.name = f"agent_{index}"
        self.policy = policy
        self.reference = reference
        self.optimizer = optimizer
        self.args = args
        self.world = world
        self.estimator = ESTIMATORS[args.advantage_estimator]
        self.penalty = KL_PENALTIES[args.kl_estimator]
        self.placement = KL_PLACEMENTS[args.kl_placement]
        self.state = AgentState(args.kl_coef)
        self.passes = PassSize(f"learning, {self.name}")
        self.elastic_reset = ElasticReset.from_config(policy.language_parameters(), args)
        self.weight_average = WeightAverage.from_config(policy.language_parameters(), args)

    def update(
        self, experience: Experience, step: int, team: Sequence[Experience] = ()
    ) -> dict[str, float]:
        """One PPO update (Eq 10–13) on the agent's samples of this iteration.

        Args:
            experience: its own.
            step: of the iteration.
            team: everybody's, in the order of speaking, for what is learnt from partners.

        Returns:
            metrics, averaged over optimizer steps unless docs/metrics.md says otherwise.
        """
        own, metrics = settle_engine(*self._prepare(experience), experience, self.args)
        lessons = [own]
        for learnt, measured in (self.study(team), better_answers(team, self.args)):
            lessons += learnt
            metrics |= measured
        history: list[dict[str, float]] = []
        skipped = 0
        for epoch in range(self.args.num_ppo_epochs):
            parts = [self._mini_batches(len(lesson.batch), step, epoch) for lesson in lessons]
            for rows in zip(*parts, strict=True):
                measured = self._optimizer_step(lessons, rows)
                history += [measured] if measured else []
                skipped += not measured
                self.state.skips_in_a_row = 0 if measured else self.state.skips_in_a_row + 1
                if self.state.skips_in_a_row > LARGEST_RUN_OF_SKIPS:
                    raise not_finite(self.name, step, self.policy, lessons, self.args.temperature)
            limit = self.args.target_kl
            if limit is not None and history and history[-1]["approx_kl"] > limit:
                break
        if history:
            metrics["first_ratio_error"] = history[0]["ratio_error"]
        metrics["optimizer_steps"] = float(len(history))
        metrics["skipped_steps"] = float(skipped)
        metrics["kl_coef"] = self.state.kl_coef
        self._finish(experience, step)
        return averages(history) | metrics

    def study(self, team: Sequence[Experience]) -> tuple[list[Lesson], dict[str, float]]:
        """Partners' answers to the plain query, as if this agent had given them in their place.

        Scored by its own weights; each advantage is weighted by how much likelier its token was to
        this agent than to the one who sampled it.

        Returns:
            a lesson per partner, and their metrics.
        """
        lessons, metrics = [], {}
        for partner in plain_samples(team, self.index, self.args):
            scores = score(
                self.policy,
                self.reference,
                partner.batch,
                self.args.temperature,
                self.args.per_device_eval_batch_size,
                world=self.world,
            )._replace(ref_hidden=partner.scores.ref_hidden)
            lesson, _ = self._prepare(replace(partner, scores=scores))
            importance = importance_of(scores.logprobs, behaviour_logprobs(partner, self.args))
            name = f"from_agent_{partner.turn.agent}/"
            metrics[f"{name}importance"] = float(importance[partner.batch.response_mask].mean())
            weighted = lesson.advantages * importance
            weight = self.args.partner_samples_weight
            lessons.append(replace(lesson, advantages=weighted, weight=weight, name=name))
        return lessons, metrics

    def as_result(self) -> AbstractContextManager[None]:
        """Context in which the policy has the weights that count: their average, if one is kept."""
        if self.weight_average is None or self.weight_average.count == 0:
            return nullcontext()
        return replaced(self.weight_average.weights, self.weight_average.average)

    def forget(self) -> None:
        """Lose optimizer moments, KL coefficient and reward statistics; weights stay.

        Reproduces what an exchange does in the paper's reference code.
        """
        self.state = AgentState(self.args.kl_coef)
        for parameter in self.policy.trainable_parameters():
            self.optimizer.state.pop(parameter, None)

    def _prepare(self, experience: Experience) -> tuple[Lesson, dict[str, float]]:
        args, batch, scores = self.args, experience.batch, experience.scores
        mask = batch.response_mask
        team_reward = self._scaled(experience)
        kl = self.placement.in_reward(self.penalty.when_sampled(scores), mask, args.gamma)
        token_rewards = losses.token_rewards(team_reward, kl, mask, self.state.kl_coef)
        size = group_size_at(experience.turn.place, args.num_generations, args.observer_generations)
        advantages, returns = self.estimator.compute(
            token_rewards, scores.values, mask, args.gamma, args.lam, size
        )
        whiten = self.estimator.whiten if args.whiten_advantages is None else args.whiten_advantages
        advantage_std = float(advantages[mask].std(correction=0))
        metrics = {"advantage_std": advantage_std}
        follows = whiten and self.placement.follows_whitening
        if self.estimator.uses_values:
            metrics["explained_variance"] = explained_variance(scores.values[mask], returns[mask])
        kl_weight = self.state.kl_coef / (advantage_std + 1e-4 if follows else 1.0)
        lesson = Lesson(
            batch=batch,
            old_logprobs=scores.logprobs,
            old_values=scores.values if self.estimator.uses_values else None,
            ref_logprobs=scores.ref_logprobs,
            ref_hidden=scores.ref_hidden,
            advantages=losses.masked_whiten(advantages, mask) if whiten else advantages,
            returns=returns,
            kl_weight=kl_weight if self.placement.in_loss else None,
        )
        return lesson, metrics

    def _scaled(self, experience: Experience) -> Float[Tensor, " B"]:
        args, reward = self.args, experience.team_reward
        if args.normalize_rewards:
            reward = self.state.reward_scaler(experience.turn.role).update_and_scale(reward)
        return (
            reward if args.score_clip is None else reward.clamp(-args.score_clip, args.score_clip)
        )

    def _mini_batches(self, num_rows: int, step: int, epoch: int) -> Iterator[Tensor]:
        generator = derive_generator(self.args.seed, "mini-batches", self.index, step, epoch)
        order = torch.randperm(num_rows, generator=generator)
        yield from order.tensor_split(self.args.num_mini_batches)

    def _optimizer_step(
        self, lessons: Sequence[Lesson], rows: Sequence[Tensor]
    ) -> dict[str, float]:
        """One step on some rows of each lesson; {} and no step if that is not finite."""
        chosen = select_each(lessons, rows)
        totals = self.passes.attempt(lambda: self._gradient(chosen), self.world)
        weights = self.policy.trainable_parameters()
        limit = self.args.max_grad_norm or float("inf")
        self.world.sum_gradients(weights)
        totals["grad_norm"] = whole(nn.utils.clip_grad_norm_(weights, limit))
        if not is_finite(totals):
            return {}
        self.optimizer.step()
        if self.elastic_reset is not None:
            self.elastic_reset.follow()
        return {key: float(value) for key, value in totals.items()}

    def _gradient(self, lessons: Sequence[Lesson]) -> dict[str, Tensor]:
        """The whole gradient of some lessons, of which nothing was there before."""
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for lesson in lessons:
            totals |= self._accumulate(lesson)
        return totals

    def _accumulate(self, lesson: Lesson) -> dict[str, Tensor]:
        """Add the gradient of this process's rows of a mini-batch, one micro-batch at a time."""
        batch, num_tokens = lesson.batch, lesson.batch.num_tokens
        own = self.world.rows(len(batch), batch.input_ids.device)
        largest = self.passes.at_most(self.args.per_device_train_batch_size)
        micro_batches = self.passes.noted(
            batch.select(own).split(largest, self.policy.tokens_per_pass)
        )

        def loss_of(a_pass: tuple[Tensor, bool]) -> Loss:
            rows, counts = a_pass
            piece = replace(lesson.select(own[rows]), weight=lesson.weight * counts)
            loss, statistics = lesson_loss(
                piece, num_tokens, self.policy, self.reference, self.penalty, self.args
            )
            return loss, {key: value * counts for key, value in statistics.items()}

        with at_hand(self.policy, self.reference):
            passes = self.world.passes(micro_batches, len(batch))
            totals = combined(add_gradients(loss_of, passes, self.policy))
        everywhere = self.world.gather_tensors(torch.stack(list(totals.values())))
        totals = combined([dict(zip(totals, row, strict=True)) for row in everywhere])
        return {f"{lesson.name}{key}": totals[key] for key in lesson.kept(totals)}

    def _finish(self, experience: Experience, step: int) -> None:
        kl_per_sequence = float(experience.scores.full_kl.sum(1).mean())
        next_coef = KL_CONTROLLERS[self.args.kl_controller]
        self.state.kl_coef = next_coef(
            self.state.kl_coef, kl_per_sequence, len(experience.batch), self.args
        )
        period = self.args.elastic_reset_period
        if self.elastic_reset is not None and period and (step + 1) % period == 0:
            self.elastic_reset.reset()
        if self.weight_average is not None:
            self.weight_average.follow()
