"""Alarms of collapse: what they are, when they are told, and when they stop a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cory.config import CORYConfig
from cory.io.errors import CoryRuntimeError
from cory.team.agent import Agent

MIN_ENTROPY = 0.01
"""Nats per token. Below this the agent answers the same nearly every time."""
MAX_KL_PER_TOKEN = 2.0
"""Nats. Above this tokens are on average e² times likelier than under the initial model."""
MIN_UNIQUE_SHARE = 0.1
"""Share of an iteration's answers that are distinct."""
ITERATIONS_TO_STOP = 5
"""Iterations in a row with an alarm of one agent, after which `collapse_alarms="stop"` stops."""


class CollapseError(CoryRuntimeError):
    """An agent had alarms in `ITERATIONS_TO_STOP` iterations in a row."""


def alarms_of(measured: Mapping[str, float], args: CORYConfig) -> list[str]:
    """Signs of collapse in one agent's numbers of one iteration, in words; none if they are off.

    A number that is nan is on the wrong side of every threshold.

    >>> alarms_of({"entropy": 0.002, "kl_per_token": 0.3, "unique_share": 1.0}, CORYConfig())
    ['entropy 0.002 is below 0.01']
    """
    if args.collapse_alarms == "off":
        return []
    found = [
        f"{name} {measured[name]:.3g} is below {floor}"
        for name, floor in (("entropy", MIN_ENTROPY), ("unique_share", MIN_UNIQUE_SHARE))
        if not measured[name] >= floor
    ]
    kl = measured["kl_per_token"]
    if not kl <= MAX_KL_PER_TOKEN:
        found.append(f"kl_per_token {kl:.3g} is above {MAX_KL_PER_TOKEN}")
    return found


def watch(
    agents: Sequence[Agent], step: int, metrics: Mapping[str, float], args: CORYConfig
) -> list[str]:
    """Count each agent's iterations with alarms, in its state: a resumed run goes on counting.

    `metrics` are those of iteration `step`, by `agent_0/entropy` and the like.

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
    """The error that ends the run once it is saved, after `step` iterations.

    None while no agent's alarms last too long.
    """
    for agent in agents:
        count = agent.state.alarms_in_a_row
        if args.collapse_alarms == "stop" and count >= ITERATIONS_TO_STOP:
            return CollapseError(
                f"{agent.name} had alarms in {count} iterations in a row, the last in iteration "
                f"{step}, and collapse_alarms='stop': the run was saved and stopped. Continue from "
                "an earlier checkpoint with a higher kl_coef or a lower learning_rate, or from "
                "this one with collapse_alarms='warn'"
            )
    return None
