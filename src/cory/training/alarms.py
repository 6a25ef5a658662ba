"""Alarms: signs in an iteration's numbers that an agent is collapsing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cory.config import CORYConfig
from cory.io.errors import CoryRuntimeError
from cory.team.agent import Agent


class CollapseError(CoryRuntimeError):
    """An agent had alarms in as many iterations in a row as `alarm_patience` allows."""


def alarms_of(measured: Mapping[str, float], args: CORYConfig) -> list[str]:
    """What is wrong with one agent's numbers of one iteration, in words.

    A number that is nan is on the wrong side of every threshold.

    >>> alarms_of({"entropy": 0.002, "kl_per_token": 0.3, "unique_share": 1.0}, CORYConfig())
    ['entropy 0.002 is under min_entropy=0.01']
    """
    found = []
    for name, floor in (
        ("entropy", args.min_entropy),
        ("unique_share", args.min_unique_share),
    ):
        if floor is not None and not measured[name] >= floor:
            found.append(f"{name} {measured[name]:.3g} is under min_{name}={floor}")
    kl, ceiling = measured["kl_per_token"], args.max_kl_per_token
    if ceiling is not None and not kl <= ceiling:
        found.append(f"kl_per_token {kl:.3g} is over max_kl_per_token={ceiling}")
    return found


def watch(
    agents: Sequence[Agent], step: int, metrics: Mapping[str, float], args: CORYConfig
) -> list[str]:
    """Count each agent's iterations with alarms.

    Args:
        agents: in whose state the count is kept, so that a resumed run goes on counting.
        step: iterations done.
        metrics: of this iteration, by `agent_0/entropy` and the like.
        args: settings.

    Returns:
        a warning where alarms begin, and a word where they end.
    """
    told = []
    for agent in agents:
        prefix, state = f"{agent.name}/", agent.state
        own = {key.removeprefix(prefix): metrics[key] for key in metrics if key.startswith(prefix)}
        alarms = alarms_of(own, args)
        if alarms and not state.alarms_in_a_row:
            told.append(f"cory: alarm in iteration {step}: {agent.name}'s {'; '.join(alarms)}")
        elif state.alarms_in_a_row and not alarms:
            told.append(f"cory: in iteration {step} there is no alarm of {agent.name} any more")
        state.alarms_in_a_row = state.alarms_in_a_row + 1 if alarms else 0
    return told


def collapse(agents: Sequence[Agent], step: int, args: CORYConfig) -> CollapseError | None:
    """What ends the run, once it is saved; None while nobody's alarms have lasted too long.

    Args:
        agents: that were watched.
        step: iterations done.
        args: settings.
    """
    patience = args.alarm_patience
    for agent in agents:
        count = agent.state.alarms_in_a_row
        if patience is not None and count >= patience:
            return CollapseError(
                f"{agent.name} had alarms in {count} iterations in a row, the last in iteration "
                f"{step}, and alarm_patience={patience}: the run was stopped. Go on from an "
                "earlier checkpoint with a higher kl_coef or a lower learning_rate, or from this "
                "one with another alarm_patience"
            )
    return None
