"""Advantages by name: what a sampled token was better than.

Pure functions of tensors; B sequences, T response tokens. `response_mask` is True on response
tokens; the others contribute nothing, whatever they hold, and their results are exactly 0. A gap
in a response counts as cut out: the token after it follows the token before it. A sequence without
response tokens is not there: it has no part in any mean, nor in the size of its group. So an answer
that no reward function pays is left out.

Advantages come before whitening, which `Estimator.whiten` leaves to the caller
(`losses.masked_whiten`). Every function takes the whole batch of one agent, since a baseline must
not depend on how the batch is later split. Both results are constants of the update.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cory.algorithm.losses import masked_mean, zero_padding

LARGEST_IMPORTANCE = 2.0
"""Default cut of importance weights: more would let a few tokens decide an update."""


def gae(
    token_rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    response_mask: Bool[Tensor, "B T"],
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Generalised advantage estimation (Schulman et al., arXiv 1506.02438, Eq 16).

        δ_t = r_t + γ V_{t+1} − V_t        V = 0 after the last response token
        A_t = δ_t + γλ A_{t+1}             A = 0 after the last response token
        R_t = A_t + V_t

    λ = 1 is the discounted reward-to-go minus the value; λ = 0 the one-step error δ_t.

    Returns:
        advantages and returns; the latter are what the value function is trained on.
    """
    advantages = torch.zeros_like(values)
    next_value = next_advantage = values.new_zeros(len(values))
    for t in reversed(range(values.shape[1])):
        is_response = response_mask[:, t]
        error = token_rewards[:, t] + gamma * next_value - values[:, t]
        advantage = error + gamma * lam * next_advantage
        next_advantage = torch.where(is_response, advantage, next_advantage)
        next_value = torch.where(is_response, values[:, t], next_value)
        advantages[:, t] = next_advantage
    return zero_padding(advantages, response_mask), zero_padding(advantages + values, response_mask)


def reward_to_go(
    token_rewards: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], gamma: float
) -> Float[Tensor, "B T"]:
    """Discounted sum of the rewards from each token on, G_t = r_t + γ G_{t+1}.

    As an advantage, with no baseline at all, it is REINFORCE (Williams 1992).
    """
    no_values = torch.zeros_like(token_rewards)
    advantages, _ = gae(token_rewards, no_values, response_mask, gamma, lam=1)
    return advantages


def batch_mean(
    token_rewards: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], gamma: float
) -> Float[Tensor, "B T"]:
    """Reward-to-go minus its mean over all response tokens of the batch.

        A_t = G_t − mean(G)

    With whitening this is REINFORCE++ (arXiv 2501.03262): per token, because each token answers
    for the KL penalties from itself on, and one baseline for all queries. A single token gets 0.
    """
    returns = reward_to_go(token_rewards, response_mask, gamma)
    return zero_padding(returns - masked_mean(returns, response_mask), response_mask)


def group(
    token_rewards: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], num_generations: int
) -> Float[Tensor, "B T"]:
    """How many standard deviations an answer is above the other answers to its query.

        A_i = (G_i − mean(G)) / (std(G) + 1e-4)        over the group, std with N − 1

    The outcome-supervised advantage of GRPO (arXiv 2402.03300, §4.1.2): G_i is the undiscounted
    sum of the rewards of answer i, and each of its tokens gets A_i. The paper leaves std and
    epsilon open; both are TRL's. An epsilon in the units of the reward keeps differences that do
    not matter from being blown up. Equal answers get exactly 0, and so does one that is alone.

    Args:
        num_generations: rows of a group, which are consecutive; N counts those with response
            tokens.

    Raises:
        ValueError: groups of less than 2, or a batch that is not a whole number of groups.
    """
    deviations, sizes = _deviations_in_groups(token_rewards, response_mask, num_generations)
    std = (deviations.square().sum(1, keepdim=True) / (sizes - 1).clamp(min=1)).sqrt()
    return _broadcast_to_tokens(deviations / (std + 1e-4), response_mask)


def group_by_batch(
    token_rewards: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], num_generations: int
) -> Float[Tensor, "B T"]:
    """`group`, with one standard deviation for all queries.

        A_i = (G_i − mean(G)) / (std(all G) + 1e-4)        mean over the group, std over the batch

    A query whose answers earn nearly the same is not blown up (Liu et al., arXiv 2508.08221). Equal
    answers get exactly 0, whatever others earn.
    """
    deviations, _ = _deviations_in_groups(token_rewards, response_mask, num_generations)
    rewards = zero_padding(token_rewards, response_mask).sum(1)[response_mask.any(1)]
    std = rewards.std() if len(rewards) > 1 else rewards.new_zeros(())
    return _broadcast_to_tokens(deviations / (std + 1e-4), response_mask)


def group_unscaled(
    token_rewards: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], num_generations: int
) -> Float[Tensor, "B T"]:
    """How much an answer is above the mean of its group, A_i = G_i − mean(G).

    The advantage of Dr. GRPO (arXiv 2503.20783): divided by a standard deviation, queries that are
    nearly always or nearly never answered right would count more. `leave_one_out` is N / (N − 1)
    times this.
    """
    deviations, _ = _deviations_in_groups(token_rewards, response_mask, num_generations)
    return _broadcast_to_tokens(deviations, response_mask)


def leave_one_out(
    token_rewards: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], num_generations: int
) -> Float[Tensor, "B T"]:
    """How much an answer is above the mean of the other answers to its query.

        A_i = G_i − mean(G_j, j ≠ i) = N / (N − 1) · (G_i − mean(G))

    RLOO (arXiv 2402.14740): the whole answer is one action, so G_i is the undiscounted sum of its
    rewards, KL penalties included, and each of its tokens gets A_i. Unbiased, as the baseline does
    not depend on the answer. Equal answers get exactly 0, and so does one that is alone.

    Args:
        num_generations: rows of a group, which are consecutive; N counts those with response
            tokens.

    Raises:
        ValueError: groups of less than 2, or a batch that is not a whole number of groups.
    """
    deviations, sizes = _deviations_in_groups(token_rewards, response_mask, num_generations)
    scale = sizes / (sizes - 1).clamp(min=1)
    return _broadcast_to_tokens(scale * deviations, response_mask)


def truncated_importance(
    logprobs: Float[Tensor, "B T"],
    behaviour_logprobs: Float[Tensor, "B T"],
    largest: float = LARGEST_IMPORTANCE,
) -> Float[Tensor, "B T"]:
    """Importance weights of tokens that another policy drew, cut off at `largest`.

        c_t = min(π(w_t) / μ(w_t), largest)        1 on padding, where both log-probabilities are 0

    Truncated importance sampling (Espeholt et al., arXiv 1802.01561, §4.1). Where μ is π
    all weights are 1.
    """
    return (logprobs - behaviour_logprobs).exp().clamp(max=largest)


def _deviations_in_groups(
    token_rewards: Float[Tensor, "B T"], response_mask: Bool[Tensor, "B T"], num_generations: int
) -> tuple[Float[Tensor, "G N"], Float[Tensor, "G 1"]]:
    """Rewards of the sequences, relative to the mean of their group, and how many there are in it.

    Sequences without response tokens are not among them, and get 0.
    """
    if num_generations < 2:
        raise ValueError(
            f"num_generations={num_generations}: a group baseline compares at least 2 answers to "
            "a query. Set num_generations to 2 or more, or use the batch_mean estimator."
        )
    num_sequences = len(token_rewards)
    if num_sequences % num_generations:
        raise ValueError(
            f"num_generations={num_generations} does not divide the batch of {num_sequences} "
            "sequences: each query needs all its answers. Change one of the two."
        )
    sequence_rewards = zero_padding(token_rewards, response_mask).sum(1)
    groups = sequence_rewards.view(-1, num_generations)
    is_there = response_mask.any(1).view(-1, num_generations)
    sizes = is_there.sum(1, keepdim=True).to(groups.dtype)
    # A mean of equal numbers may differ from them in the last digit; a mean of zeros does not.
    first = is_there.int().argmax(1, keepdim=True)
    groups = zero_padding(groups - groups.gather(1, first), is_there)
    means = groups.sum(1, keepdim=True) / sizes.clamp(min=1)
    return zero_padding(groups - means, is_there), sizes


def _broadcast_to_tokens(
    groups: Float[Tensor, "G N"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    return zero_padding(groups.view(-1, 1).expand(response_mask.shape), response_mask)


@dataclass(frozen=True)
class Estimator:
    """An advantage estimator, and what it asks of the rest."""

    value_free: Callable[[Tensor, Tensor, float, int], Tensor] | None
    """`(token_rewards, response_mask, gamma, num_generations) -> advantages`; None: `gae`."""
    whiten: bool
    """Whether its paper whitens advantages over the batch."""

    @property
    def uses_values(self) -> bool:
        """Whether there is a value function to train."""
        return self.value_free is None

    def compute(
        self,
        token_rewards: Float[Tensor, "B T"],
        values: Float[Tensor, "B T"] | None,
        response_mask: Bool[Tensor, "B T"],
        gamma: float,
        lam: float,
        num_generations: int,
    ) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """Advantages and returns.

        An estimator that uses no values takes None for them; its returns are the discounted
        reward-to-go.
        """
        if self.value_free is None:
            assert values is not None, "gae has a value function"
            return gae(token_rewards, values, response_mask, gamma, lam)
        advantages = self.value_free(token_rewards, response_mask, gamma, num_generations)
        return advantages, reward_to_go(token_rewards, response_mask, gamma)


ESTIMATORS: dict[str, Estimator] = {
    "gae": Estimator(None, whiten=True),
    "group": Estimator(
        lambda rewards, response, _, size: group(rewards, response, size), whiten=False
    ),
    "leave_one_out": Estimator(
        lambda rewards, response, _, size: leave_one_out(rewards, response, size), whiten=False
    ),
    "batch_mean": Estimator(
        lambda rewards, response, gamma, _: batch_mean(rewards, response, gamma), whiten=True
    ),
    "reinforce": Estimator(
        lambda rewards, response, gamma, _: reward_to_go(rewards, response, gamma), whiten=False
    ),
}
"""Every estimator by the name it has in `CORYConfig.advantage_estimator`."""

GROUP_SCALES: dict[str, Estimator] = {
    "group": ESTIMATORS["group"],
    "batch": Estimator(
        lambda rewards, response, _, size: group_by_batch(rewards, response, size), whiten=False
    ),
    "none": Estimator(
        lambda rewards, response, _, size: group_unscaled(rewards, response, size), whiten=False
    ),
}
"""What becomes of the estimator `group`, by the name in `CORYConfig.scale_rewards`."""


def estimator_of(name: str, scale_rewards: str) -> Estimator:
    """The estimator of a name; `scale_rewards` says what `group` divides by."""
    return GROUP_SCALES[scale_rewards] if name == "group" else ESTIMATORS[name]
