"""Settings: how one agent learns from its own samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cory.config.fields import FRACTION, NON_NEGATIVE, POSITIVE, setting


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """How one agent learns from its own samples."""

    advantage_estimator: Literal["gae", "group", "leave_one_out", "batch_mean", "reinforce"] = (
        setting("gae", arm_may_change=True)
    )
    """Advantages: gae (PPO), group (GRPO), leave_one_out (RLOO), batch_mean (REINFORCE++) or
    reinforce."""
    num_generations: int = setting(1, POSITIVE, arm_may_change=True)
    """Answers per query. group and leave_one_out need at least 2."""
    num_ppo_epochs: int = setting(4, POSITIVE)
    """Passes over the samples of an iteration."""
    num_mini_batches: int = setting(1, POSITIVE)
    """Optimizer steps per pass."""
    gamma: float = setting(1.0, FRACTION)
    """γ, the discount per token."""
    lam: float = setting(0.95, FRACTION, arm_may_change=True)
    """λ of GAE."""
    cliprange: float = setting(0.2, POSITIVE, arm_may_change=True)
    """Clip range of the probability ratio."""
    cliprange_value: float | None = setting(0.2, POSITIVE, arm_may_change=True)
    """Clip range of the value function. None: no clipping."""
    vf_coef: float = setting(0.1, NON_NEGATIVE, arm_may_change=True)
    """Weight of the value loss."""
    whiten_advantages: bool | None = setting(None, arm_may_change=True)
    """Whiten advantages over the agent's batch. None: as in the paper of the estimator."""
    kl_coef: float = setting(0.05, NON_NEGATIVE)
    """η, the weight of the KL divergence from the initial model."""
    kl_estimator: Literal["full", "k1", "k2", "k3", "abs", "mse"] = setting(
        "k1", arm_may_change=True
    )
    """How the KL penalty is computed. The full KL is always reported, whatever is chosen."""
    kl_placement: Literal["reward", "loss", "both"] = setting("reward", arm_may_change=True)
    """Where the KL penalty is applied. both needs the estimator full and gives its exact gradient:
    a token's own KL in the loss, the KL of later tokens in the reward."""
    kl_controller: Literal["fixed", "adaptive"] = setting("fixed")
    """fixed: η stays `kl_coef`. adaptive: each agent changes its η until its KL per sequence is
    near `kl_target`."""
    kl_target: float = setting(6.0, POSITIVE)
    """Target of the adaptive controller: KL per sequence, in nats."""
    kl_horizon: int = setting(10000, POSITIVE)
    """Horizon of the adaptive controller, in samples. Larger values change η more slowly."""
    target_kl: float | None = setting(None, POSITIVE, arm_may_change=True)
    """Stop an agent's epochs early when its update has changed it by more than this KL per token.
    None: never."""
    normalize_rewards: bool = setting(False)
    """Subtract the running mean from team rewards and divide by their running standard deviation.
    The statistics are kept per agent and role."""
    score_clip: float | None = setting(None, POSITIVE)
    """Clip team rewards to ± this value, after they are normalized. None: no clipping."""
    elastic_reset_period: int | None = setting(None, POSITIVE, arm_may_change=True)
    """Elastic Reset (arXiv 2312.07551): after every so many iterations, the weights become their
    moving average and the average becomes the initial weights. None: never."""
    elastic_reset_decay: float = setting(0.995, FRACTION, arm_may_change=True)
    """Decay of that moving average per optimizer step."""
