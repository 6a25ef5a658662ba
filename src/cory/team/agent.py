"""One agent: its weights, its PPO update, and the state that stays with it at an exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cory.algorithm import losses
from cory.algorithm.advantages import estimator_of, truncated_importance
from cory.algorithm.seeding import derive_generator
from cory.config import CORYConfig
from cory.distributed.fsdp import full_tensor, unsharded_heads
from cory.distributed.memory import PassSize
from cory.models.policy import Policy
from cory.models.scoring import TokenScorer
from cory.models.weights import replaced
from cory.team.averaging import WeightAverage
from cory.team.controllers import KL_CONTROLLERS, ElasticReset, RewardScaler
from cory.team.kl_penalty import KL_PENALTIES, KL_PLACEMENTS
from cory.team.metrics import averages, combined, explained_variance
from cory.team.train_samples import (
    TrainSamples,
    behaviour_logprobs,
    correct_sampler_mismatch,
    learnt_only,
    loss_variant,
    plain_records,
    select_each,
    transfer_back_samples,
)
from cory.team.types import RolloutRecord
from cory.team.update import (
    LARGEST_RUN_OF_SKIPS,
    Loss,
    add_gradients,
    is_finite,
    microbatch_loss,
    not_finite,
)


@dataclass
class AgentState:
    """What an agent remembers beside its weights and the optimizer's moments."""

    kl_coef: float
    reward_scalers: dict[str, RewardScaler] = field(default_factory=dict)
    skips_in_a_row: int = 0
    """Updates since the last one that was finite."""
    alarms_in_a_row: int = 0
    """Iterations since the last one without an alarm."""


@dataclass(eq=False)
class Agent:
    """Learns from its own samples by PPO, or by another estimator inside PPO's clipped update.

    Args:
        index: number of the agent; its name is `agent_{index}`.
        policy: its weights.
        scorer: scores partners' answers; holds the frozen reference, and the processes that
            backpropagate.
        optimizer: shared by the team; in an agent's step its gradients are the only ones, so only
            its parameters and moments move.
        args: settings.
    """

    index: int
    policy: Policy
    scorer: TokenScorer
    optimizer: Optimizer
    args: CORYConfig

    def __post_init__(self) -> None:
        self.name = f"agent_{self.index}"
        policy, args = self.policy, self.args
        self.reference = self.scorer.reference
        self.world = self.scorer.world
        self.estimator = estimator_of(args.advantage_estimator, args.scale_rewards)
        self.penalty = KL_PENALTIES[args.kl_estimator]
        self.placement = KL_PLACEMENTS[args.kl_placement]
        self.state = AgentState(args.kl_coef)
        self.passes = PassSize(f"learning, {self.name}")
        weights = policy.language_parameters()
        # Both cost memory, and are there only where the settings ask for them.
        self.elastic_reset = self.weight_average = None
        if args.elastic_reset_period is not None:
            self.elastic_reset = ElasticReset(weights, args.elastic_reset_decay)
        if args.weight_average_decay is not None:
            self.weight_average = WeightAverage(weights, args.weight_average_decay)

    def scale_rewards(self, record: RolloutRecord) -> RolloutRecord:
        """Include the agent's own pay in its running statistics, and scale it by them.

        Every answer is scaled once, by the statistics of the agent who gave it in its role.
        Partners learn from the scaled reward.
        """
        args, reward = self.args, record.team_reward
        if args.normalize_rewards:
            role = record.generation.role
            scaler = self.state.reward_scalers.setdefault(role, RewardScaler())
            scaler.update(reward[record.is_learnt])
            reward = scaler.scale(reward)
        if args.score_clip is not None:
            reward = reward.clamp(-args.score_clip, args.score_clip)
        return replace(record, scaled_reward=reward)

    def update(
        self, record: RolloutRecord, step: int, team: Sequence[RolloutRecord] = ()
    ) -> dict[str, float]:
        """One PPO update (Eq 10–13) on the agent's samples of this iteration.

        Args:
            record: its own, as `scale_rewards` returned it.
            step: of the iteration.
            team: everybody's, in the order of speaking, for what is learnt from partners.

        Returns:
            metrics, averaged over optimizer steps unless docs/reference/metrics.md says otherwise.
        """
        samples, metrics = self.own_samples(record)
        for taken, measured in (self.partner_samples(team), transfer_back_samples(team, self.args)):
            samples += taken
            metrics |= measured
        history: list[dict[str, float]] = []
        skipped = 0
        for epoch in range(self.args.num_ppo_epochs):
            parts = [self._mini_batches(len(one.batch), step, epoch) for one in samples]
            # Where most answers are left out, a mini-batch may have none.
            for rows in [rows for rows in zip(*parts, strict=True) if any(map(len, rows))]:
                measured = self._optimizer_step(samples, rows)
                history += [measured] if measured else []
                skipped += not measured
                self.state.skips_in_a_row = 0 if measured else self.state.skips_in_a_row + 1
                if self.state.skips_in_a_row > LARGEST_RUN_OF_SKIPS:
                    raise not_finite(self.name, step, self.policy, samples, self.args.temperature)
            limit = self.args.target_kl
            if limit is not None and history and history[-1].get("approx_kl", 0.0) > limit:
                break
        errors = [measured["ratio_error"] for measured in history if "ratio_error" in measured]
        if errors:
            metrics["first_ratio_error"] = errors[0]
        metrics["optimizer_steps"] = float(len(history))
        metrics["skipped_steps"] = float(skipped)
        metrics["kl_coef"] = self.state.kl_coef
        self._finish(record, step)
        return averages(history) | metrics

    def own_samples(self, record: RolloutRecord) -> tuple[list[TrainSamples], dict[str, float]]:
        """The agent's own answers, none if all are left out, and metrics of them."""
        if not record.is_learnt.any():
            return [], {}
        made = self.make_train_samples(record)
        own, metrics = correct_sampler_mismatch(*made, record, self.args)
        return [learnt_only(own, record)], metrics

    def partner_samples(
        self, team: Sequence[RolloutRecord]
    ) -> tuple[list[TrainSamples], dict[str, float]]:
        """Partners' answers to the plain query, as if this agent had given them in their place.

        Scored by its own weights; each advantage is weighted by how much likelier its token was to
        this agent than to the one who sampled it.

        Returns:
            samples of each partner, and their metrics.
        """
        weight, samples, metrics = self.args.partner_samples_weight, [], {}
        partners = plain_records(team, self.index) if weight else []
        for partner in filter(lambda one: one.is_learnt.any(), partners):
            scores = self.scorer.score(self.policy, partner.batch, kept=partner.scores.kept)
            made, _ = self.make_train_samples(replace(partner, scores=scores))
            drawn_with = behaviour_logprobs(partner, self.args)
            importance = truncated_importance(scores.logprobs, drawn_with)
            name = f"from_agent_{partner.generation.agent}/"
            metrics[f"{name}importance"] = float(importance[partner.batch.response_mask].mean())
            weighted = made.advantages * importance
            made = replace(made, advantages=weighted, weight=weight, name=name)
            samples.append(learnt_only(made, partner))
        return samples, metrics

    def as_result(self) -> AbstractContextManager[None]:
        """Context in which the policy has the weights that count: their average, if one is kept."""
        if self.weight_average is None or self.weight_average.count == 0:
            return nullcontext()
        return replaced(self.weight_average.weights, self.weight_average.average)

    def reset_state(self) -> None:
        """Reset optimizer moments, KL coefficient and reward statistics; weights stay.

        Reproduces what an exchange does in the paper's reference code.
        """
        self.state = AgentState(self.args.kl_coef)
        for parameter in self.policy.trainable_parameters():
            self.optimizer.state.pop(parameter, None)

    def make_train_samples(self, record: RolloutRecord) -> tuple[TrainSamples, dict[str, float]]:
        """Training samples of some answers: token rewards, advantages, and returns.

        Answers that were declined, or cut off and masked, are in no baseline and no statistic, and
        have advantages of 0; at least one is left.

        Returns:
            the samples, and metrics of their advantages.
        """
        args, batch, scores, mask = self.args, record.batch, record.scores, record.learning_mask
        kl = self.placement.in_reward(self.penalty.when_sampled(scores), mask, args.gamma)
        token_rewards = losses.token_rewards(record.scaled_reward, kl, mask, self.state.kl_coef)
        advantages, returns = self.estimator.compute(
            token_rewards, scores.values, mask, args.gamma, args.lam, args.num_generations
        )
        whiten = self.estimator.whiten if args.whiten_advantages is None else args.whiten_advantages
        advantage_std = float(advantages[mask].std(correction=0))
        metrics = {"advantage_std": advantage_std}
        if self.estimator.uses_values:
            metrics["explained_variance"] = explained_variance(scores.values[mask], returns[mask])
        follows = whiten and self.placement.follows_whitening
        kl_weight = self.state.kl_coef / (advantage_std + 1e-4 if follows else 1.0)
        samples = TrainSamples(
            batch=batch,
            old_logprobs=scores.logprobs,
            old_values=scores.values if self.estimator.uses_values else None,
            ref_logprobs=scores.ref_logprobs,
            ref_hidden=scores.ref_hidden,
            advantages=losses.masked_whiten(advantages, mask) if whiten else advantages,
            returns=returns,
            kl_weight=kl_weight if self.placement.in_loss else None,
            kept=scores.kept,
            **loss_variant(args),
        )
        return samples, metrics

    def _mini_batches(self, num_rows: int, step: int, epoch: int) -> Iterator[Tensor]:
        generator = derive_generator(self.args.seed, "mini-batches", self.index, step, epoch)
        order = torch.randperm(num_rows, generator=generator)
        yield from order.tensor_split(self.args.num_mini_batches)

    def _optimizer_step(
        self, samples: Sequence[TrainSamples], rows: Sequence[Tensor]
    ) -> dict[str, float]:
        """One step on some rows of the samples; {} and no step if that is not finite."""
        chosen = select_each(samples, rows, self.args)
        totals = self.passes.attempt(lambda: self._gradient(chosen), self.world)
        weights = self.policy.trainable_parameters()
        limit = self.args.max_grad_norm or float("inf")
        self.world.sum_gradients(weights)
        totals["grad_norm"] = full_tensor(nn.utils.clip_grad_norm_(weights, limit))
        if not is_finite(totals):
            return {}
        self.optimizer.step()
        if self.elastic_reset is not None:
            self.elastic_reset.follow()
        return {key: float(value) for key, value in totals.items()}

    def _gradient(self, samples: Sequence[TrainSamples]) -> dict[str, Tensor]:
        """The whole gradient on some samples, of which nothing was there before."""
        self.optimizer.zero_grad(set_to_none=True)
        return {key: value for one in samples for key, value in self._accumulate(one).items()}

    def _accumulate(self, samples: TrainSamples) -> dict[str, Tensor]:
        """Add the gradient of this process's rows of a mini-batch, one micro-batch at a time."""
        batch, num_tokens = samples.batch, samples.batch.num_tokens
        own = self.world.rows(len(batch), batch.input_ids.device)
        largest = self.passes.at_most(self.args.per_device_train_batch_size)
        micro_batches = self.passes.noted(
            batch.select(own).split(largest, self.policy.tokens_per_pass)
        )

        def loss_of(a_pass: tuple[Tensor, bool]) -> Loss:
            rows, counts = a_pass
            piece = replace(samples.select(own[rows]), weight=samples.weight * counts)
            loss, statistics = microbatch_loss(
                piece, num_tokens, self.policy, self.reference, self.penalty, self.args
            )
            return loss, {key: value * counts for key, value in statistics.items()}

        with unsharded_heads(self.policy, self.reference):
            passes = self.world.padded_microbatches(micro_batches, len(batch))
            totals = combined(add_gradients(loss_of, passes, self.policy))
        everywhere = self.world.gather_tensors(torch.stack(list(totals.values())))
        totals = combined([dict(zip(totals, row, strict=True)) for row in everywhere])
        return {f"{samples.name}{key}": totals[key] for key in samples.logged(totals)}

    def _finish(self, record: RolloutRecord, step: int) -> None:
        kl_per_sequence = float(record.scores.full_kl.sum(1).mean())
        next_coef = KL_CONTROLLERS[self.args.kl_controller]
        self.state.kl_coef = next_coef(
            self.state.kl_coef, kl_per_sequence, len(record.batch), self.args
        )
        period = self.args.elastic_reset_period
        if self.elastic_reset is not None and period and (step + 1) % period == 0:
            self.elastic_reset.reset()
        if self.weight_average is not None:
            self.weight_average.follow()
