"""Settings: how one agent learns from its own samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """How one agent learns from its own samples."""

    advantage_estimator: Literal["gae", "group", "leave_one_out", "batch_mean", "reinforce"] = "gae"
    """gae (PPO), group (GRPO), leave_one_out (RLOO), batch_mean (REINFORCE++) or reinforce."""
    num_generations: int = 1
    """Answers per query. group and leave_one_out need at least 2."""
    num_ppo_epochs: int = 4
    """Passes over the samples of an iteration."""
    num_mini_batches: int = 1
    """Optimizer steps per pass."""
    gamma: float = 1.0
    """Discount per token."""
    lam: float = 0.95
    """λ of GAE."""
    cliprange: float = 0.2
    """Clip range of the probability ratio."""
    cliprange_value: float | None = 0.2
    """Clip range of the value function. None: no clipping."""
    vf_coef: float = 0.1
    """Weight of the value loss."""
    whiten_advantages: bool | None = None
    """Whiten advantages over the agent's batch. None: as the estimator's own paper does."""
    kl_coef: float = 0.05
    """η, the weight of the KL to the initial model."""
    kl_estimator: Literal["full", "k1", "k2", "k3", "abs", "mse"] = "k1"
    """What the KL penalty is computed from; the full KL is reported in any case."""
    kl_placement: Literal["reward", "loss", "both"] = "reward"
    """Where the penalty goes. both, with `full` only: its exact gradient, a token's own KL in the
    loss and that of later tokens in the reward."""
    kl_controller: Literal["fixed", "adaptive"] = "fixed"
    """adaptive: each agent moves its η so that its KL per sequence tends to `kl_target`."""
    kl_target: float = 6.0
    """KL per sequence, in nats, that the adaptive controller aims at."""
    kl_horizon: int = 10000
    """Samples over which the adaptive controller acts."""
    target_kl: float | None = None
    """Stop an agent's epochs once its update has moved it this far (KL per token). None: never."""
    use_score_scaling: bool = False
    """Divide team rewards by their running standard deviation, kept per agent and role."""
    use_score_norm: bool = False
    """Subtract their running mean too. Needs `use_score_scaling`."""
    score_clip: float | None = None
    """Clip team rewards, after scaling, to ± this value."""
    elastic_reset_period: int | None = None
    """Elastic Reset (arXiv 2312.07551): every so many iterations weights go back to their moving
    average and the average to the initial weights. None: never."""
    elastic_reset_decay: float = 0.995
    """Decay, per optimizer step, of that moving average."""
