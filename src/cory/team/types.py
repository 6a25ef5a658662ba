"""What travels between the rooms."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from cory.models.batch import Batch
from cory.models.scoring import TokenScores
from cory.team.prompts import Query
from cory.team.roles import role_name


@dataclass(frozen=True)
class Turn:
    """What one agent said in one iteration: B prompts and its answers to them.

    `completions` are the decoded answers without special tokens, `hidden` and `logprobs` what the
    sampler kept, the former of this process's rows (see `sampling.Answers`). `num_references`
    counts the earlier answers that each prompt shows: with none it is the plain query.
    """

    agent: int
    place: int
    prompt_ids: list[list[int]]
    response_ids: list[list[int]]
    completions: list[str]
    hidden: Float[Tensor, "b T D"] | None = None
    logprobs: Float[Tensor, "B T"] | None = None
    num_references: int = 0

    def __len__(self) -> int:
        return len(self.response_ids)

    @property
    def role(self) -> str:
        return role_name(self.place)


@dataclass(frozen=True)
class Experience:
    """A turn, what it earned, and how it was scored at sampling time.

    `task_reward` is the agent's own, `team_reward` what it is paid. `reward_parts` has the mean of
    each reward function by name.
    """

    turn: Turn
    batch: Batch
    scores: TokenScores
    task_reward: Float[Tensor, " B"]
    team_reward: Float[Tensor, " B"]
    reward_parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Iteration:
    """One rollout of the whole team; experiences are in the order of speaking.

    There is a query per answer of the pioneer; a later speaker may have several answers to each.
    """

    step: int
    queries: list[Query]
    experiences: list[Experience]
