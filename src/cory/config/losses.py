"""Settings of the policy loss: a theme of its own, like those in `themes`. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cory.config.fields import NON_NEGATIVE, POSITIVE, setting


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Variants of the policy loss: how much each token counts, and what is clipped."""

    loss_type: Literal["bnpo", "dapo", "grpo", "dr_grpo"] = setting("bnpo", arm_may_change=True)
    """What the sum over tokens is divided by, in the policy loss and the KL in the loss. bnpo: the
    tokens of the mini-batch. dapo: the tokens of the iteration, divided by `num_mini_batches`.
    grpo: each answer's own tokens, then the mean over answers. dr_grpo: answers times
    `max_completion_length`."""
    cliprange_high: float | None = setting(None, POSITIVE, arm_may_change=True)
    """Clip range of the probability ratio above 1 (DAPO's ε_high). None: `cliprange`, which holds
    below 1 in any case."""
    scale_rewards: Literal["group", "batch", "none"] = setting("group", arm_may_change=True)
    """What the estimator group divides advantages by: the standard deviation of the rewards of the
    query's answers, or of the agent's whole batch. none: they are not divided (Dr. GRPO)."""
    importance_sampling_level: Literal["token", "sequence", "sequence_product"] = setting(
        "token", arm_may_change=True
    )
    """Where the probability ratio is taken and clipped. token: at each token. sequence: one ratio
    per answer, the geometric mean of its tokens' (GSPO). sequence_product: their product, the
    ratio of the whole answer (RLOO). The last two need the estimator group or leave_one_out."""
    entropy_coef: float = setting(0.0, NON_NEGATIVE, arm_may_change=True)
    """Weight of the entropy bonus: the loss gets minus this times the mean entropy of the policy
    per token, in nats, whatever `loss_type` is."""
    use_bias_correction_kl: bool = setting(False, arm_may_change=True)
    """Multiply the KL in the loss by the probability ratio (DeepSeek-V3.2). Its gradient is then
    that of the full KL of each token, in expectation, for any estimator that is unbiased. Needs
    kl_placement loss and another kl_estimator than full."""
