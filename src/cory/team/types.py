"""Records passed from rollout to update.

Row i of every speaker answers the same query; a later speaker saw the rows i of the earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from cory.models.batch import Batch
from cory.models.scoring import TokenScores
from cory.team.roles import role_name


@dataclass(frozen=True)
class Generation:
    """What one agent answered in one iteration: B prompts and its answers to them.

    `completions` are the decoded answers without special tokens. `logprobs` are those that another
    engine drew the tokens with; None where this process drew them. `num_references` counts the
    earlier answers that each prompt shows: with none it is the plain query. `has_ended` is False
    for answers that were cut off at the maximum length.
    """

    agent: int
    role_index: int
    prompt_ids: list[list[int]]
    response_ids: list[list[int]]
    completions: list[str]
    logprobs: Float[Tensor, "B T"] | None = None
    num_references: int = 0
    has_ended: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.response_ids)

    @property
    def role(self) -> str:
        return role_name(self.role_index)


@dataclass(frozen=True)
class RolloutRecord:
    """A generation, what it earned, and how it was scored at sampling time.

    `task_reward` is the agent's own, `team_reward` what it is paid, `scaled_reward` the same after
    scaling by the running statistics of the agent who answered (`Agent.scale_rewards`). All three
    are NaN for an answer that every reward function declined. `reward_parts` has the mean of each
    reward function by name, `logged` that of each number that the functions logged;
    `logged_columns` are the values that they logged for each answer.
    """

    generation: Generation
    batch: Batch
    scores: TokenScores
    task_reward: Float[Tensor, " B"]
    team_reward: Float[Tensor, " B"]
    scaled_reward: Float[Tensor, " B"]
    reward_parts: dict[str, float] = field(default_factory=dict)
    logged: dict[str, float] = field(default_factory=dict)
    logged_columns: dict[str, list[Any]] = field(default_factory=dict)
    is_masked: Bool[Tensor, " B"] | None = None
    """Answers that were cut off and are left out (`mask_truncated_completions`); None: none is."""

    @property
    def is_paid(self) -> Bool[Tensor, " B"]:
        """Which answers a reward function paid; nothing is learnt from the others."""
        return ~self.task_reward.isnan()

    @property
    def is_learnt(self) -> Bool[Tensor, " B"]:
        """Which answers enter losses, baselines and running statistics."""
        return self.is_paid if self.is_masked is None else self.is_paid & ~self.is_masked

    @property
    def learning_mask(self) -> Bool[Tensor, "B T"]:
        """The response tokens of the answers that something is learnt from."""
        return self.batch.response_mask & self.is_learnt[:, None]


@dataclass(frozen=True)
class Iteration:
    """One rollout of the whole team; records are in the order of speaking.

    `rows` are the B rows of the data set that were answered: each query `num_generations` times.
    """

    step: int
    rows: list[dict[str, Any]]
    records: list[RolloutRecord]
