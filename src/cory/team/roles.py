"""Who speaks when, who sees what, who is paid what: pure functions, no state, no torch.

An *agent* owns weights; a *role* is a place in the order of speaking. Exchange permutes roles, so
nothing here ever touches a weight.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


def roles_at(step: int, num_agents: int, role_exchange_period: int | None) -> tuple[int, ...]:
    """The order of speaking in iteration `step`, as agent numbers by role index.

    The order rotates by one role every `role_exchange_period` iterations (Algorithm 1's T_REx);
    with two agents that is the swap of the paper. It is a function of the step alone, so exchange
    needs no state and survives a resume.

    >>> [roles_at(step, 2, 5) for step in (0, 4, 5, 10)]
    [(0, 1), (0, 1), (1, 0), (0, 1)]
    >>> roles_at(7, 3, 2), roles_at(7, 3, None), roles_at(7, 1, 5)
    ((0, 1, 2), (0, 1, 2), (0,))
    """
    exchanges = step // role_exchange_period if role_exchange_period else 0
    return tuple((role_index + exchanges) % num_agents for role_index in range(num_agents))


def exchange_is_due(step: int, role_exchange_period: int | None) -> bool:
    """Whether iteration `step` begins a new period, whoever there is to exchange with.

    >>> [step for step in range(12) if exchange_is_due(step, 5)], exchange_is_due(5, None)
    ([5, 10], False)
    """
    return step > 0 and role_exchange_period is not None and step % role_exchange_period == 0


def role_name(role_index: int) -> str:
    """`pioneer`, `observer`, then `observer_2`, `observer_3` … down a chain."""
    return ("pioneer", "observer")[role_index] if role_index < 2 else f"observer_{role_index}"


def reward_matrix(num_agents: int, partner_reward_weight: float) -> tuple[tuple[float, ...], ...]:
    """Row i holds what the speaker in role i is paid per unit of each role's task reward.

    r_team[i] = r[i] + λ · Σ_{j ≠ i} r[j]  (Eq 4 for λ = 1; Appendix E.2 for other λ).

    >>> reward_matrix(2, 1.0)
    ((1.0, 1.0), (1.0, 1.0))
    >>> reward_matrix(3, 0.5)
    ((1.0, 0.5, 0.5), (0.5, 1.0, 0.5), (0.5, 0.5, 1.0))
    """
    roles = range(num_agents)
    return tuple(
        tuple(1.0 if role == other else float(partner_reward_weight) for other in roles)
        for role in roles
    )


@dataclass(frozen=True)
class Answer:
    """The slot of one earlier answer in a prompt: its token ids go here unchanged."""

    role_index: int


@dataclass(frozen=True)
class Templates:
    """How a prompt is made from a query and the answers given so far.

    `query` is used when there are none, else `observer`, whose `{references}` shows each of them
    through `reference`. Only the placeholders are special; any other brace is text.
    """

    query: str = "{query}"
    observer: str = "{query}\n{references}\n"
    reference: str = "{answer}"

    def compose(self, query: str, num_answers: int) -> list[str | Answer]:
        """The prompt as runs of text and answer slots; neighbouring texts are joined.

        >>> templates = Templates(observer="Improve {references}: {query}", reference="{answer}!")
        >>> templates.compose("It was", 1)
        ['Improve ', Answer(role_index=0), '!: It was']
        >>> templates.compose("It was", 0)
        ['It was']
        """
        if num_answers == 0:
            return [self.query.replace("{query}", query)]
        references: list[str | Answer] = []
        for role_index in range(num_answers):
            references += _fill(self.reference, {"query": [query], "answer": [Answer(role_index)]})
        return _join_texts(_fill(self.observer, {"query": [query], "references": references}))


def _fill(template: str, slots: dict[str, list[str | Answer]]) -> list[str | Answer]:
    pieces = re.split(r"\{(" + "|".join(slots) + r")\}", template)
    filled: list[str | Answer] = []
    for index, piece in enumerate(pieces):
        filled += slots[piece] if index % 2 else [piece]
    return filled


def _join_texts(pieces: list[str | Answer]) -> list[str | Answer]:
    joined: list[str | Answer] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece != "":
            joined.append(piece)
    return joined
