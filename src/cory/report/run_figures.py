"""The figures of a run, from its settings and its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cory.config import CORYConfig
from cory.report.figures import (
    Axis,
    Curve,
    Figure,
    Panel,
    Span,
    Timeline,
    every_so_many,
    panels_of,
)
from cory.report.measures import HELD_OUT, KL, REWARD, TRAINING, TRANSFER, Measure
from cory.team.roles import role_name, roles_at

Records = Sequence[Mapping[str, Any]]
ITERATIONS = Axis("step", "iteration")


def training_figures(args: CORYConfig, agents: Sequence[str], records: Records) -> list[Figure]:
    """Training samples by agent and, where roles are exchanged, by role."""
    trained = [record for record in records if f"{agents[0]}/task_reward" in record]
    roles = [role_name(place) for place in range(args.num_agents)]
    spans = role_spans(args, last_step=trained[-1]["step"] if trained else 0)
    colours = {name: index for index, name in enumerate([*agents, *roles])}
    by_agent = Timeline(
        {
            agent: [
                Span(start, end, roles[order.index(index)], colours[roles[order.index(index)]])
                for start, end, order in spans
            ]
            for index, agent in enumerate(agents)
        }
    )
    by_role = Timeline(
        {
            role: [
                Span(start, end, agents[order[place]], colours[agents[order[place]]])
                for start, end, order in spans
            ]
            for place, role in enumerate(roles)
        }
    )
    titles = (("agent", agents, by_agent), ("role", roles, by_role))
    return [
        Figure(
            key=f"training_by_{kind}",
            title=f"Training samples by {kind}.",
            note="" if index else "Answers given in training, observers with references in view.",
            axes=[ITERATIONS],
            panels=_panels(TRAINING, owners, trained, "{owner}/{key}", colours),
            timeline=timeline,
        )
        # Without exchanges both figures would show the same curves.
        for index, (kind, owners, timeline) in enumerate(titles[: 2 if len(spans) > 1 else 1])
    ]


def role_spans(args: CORYConfig, last_step: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Stretches of iterations, counted from 1, with one order of speaking.

    >>> role_spans(CORYConfig(role_exchange_period=2), last_step=3)
    [(1, 2, (0, 1)), (3, 3, (1, 0))]
    """
    spans: list[tuple[int, int, tuple[int, ...]]] = []
    for step in range(last_step):
        order = roles_at(step, args.num_agents, args.role_exchange_period)
        if spans and spans[-1][2] == order:
            spans[-1] = (spans[-1][0], step + 1, order)
        else:
            spans.append((step + 1, step + 1, order))
    return spans


def held_out_figure(agents: Sequence[str], records: Records) -> Figure:
    """Each agent alone over the evaluations."""
    colours = {agent: index for index, agent in enumerate(agents)}
    return Figure(
        key="held_out",
        title="Each agent alone on held-out queries.",
        note="",
        axes=[ITERATIONS],
        panels=_panels(HELD_OUT, agents, records, "eval/{owner}/{key}", colours),
    )


def frontier_figure(agents: Sequence[str], records: Records) -> Figure:
    """Each agent alone: reward against KL over the evaluations."""
    curves = []
    for index, agent in enumerate(agents):
        found = [record for record in records if record.get(f"eval/{agent}/kl") is not None]
        if found:
            reward = [record[f"eval/{agent}/task_reward"] for record in found]
            half = [record[f"eval/{agent}/task_reward_ci95"] for record in found]
            curves.append(
                Curve(
                    name=agent,
                    colour=index,
                    line=index,
                    x={KL.key: [record[f"eval/{agent}/kl"] for record in found]},
                    y=reward,
                    lower=[mean - width for mean, width in zip(reward, half, strict=True)],
                    upper=[mean + width for mean, width in zip(reward, half, strict=True)],
                    x_half_width=found[-1].get(f"eval/{agent}/{KL.interval}"),
                )
            )
    return Figure(
        key="frontier",
        title="Reward against KL.",
        note="The two aims of training, from the first evaluation to the last (large point, with "
        "95% intervals). Up and to the left is better.",
        axes=[Axis(KL.key, KL.label)],
        panels=panels_of([(REWARD, curves)]),
        marks_end=True,
    )


def transfer_figure(args: CORYConfig, records: Records) -> Figure:
    """Copying and lift of those who speak after the pioneer."""
    roles = [role_name(place) for place in range(args.num_agents)]
    colours = {role: args.num_agents + place for place, role in enumerate(roles)}
    transfer = "" if args.knowledge_transfer else " Without transfer, this is what chance does."
    return Figure(
        key="transfer",
        title="Copying and lift over the iterations.",
        note="A word is copied if it belongs to a run of at least three words (without spaces: "
        "four characters) that stands in an earlier answer." + transfer,
        axes=[ITERATIONS],
        panels=_panels(TRANSFER, roles, records, "{owner}/{key}", colours),
    )


def _panels(
    measures: Sequence[Measure],
    owners: Sequence[str],
    records: Records,
    pattern: str,
    colours: Mapping[str, int],
) -> list[Panel]:
    """A panel per measure with a curve per owner; `pattern` makes the key of a record."""

    def curve(owner: str, measure: Measure) -> Curve | None:
        key = pattern.format(owner=owner, key=measure.key)
        found = every_so_many([record for record in records if record.get(key) is not None])
        if not found:
            return None
        values = [record[key] for record in found]
        interval = pattern.format(owner=owner, key=measure.interval)
        halves = [record.get(interval) for record in found]
        has_band = None not in halves
        return Curve(
            name=owner,
            colour=colours[owner],
            line=list(owners).index(owner),
            x={ITERATIONS.key: [record["step"] for record in found]},
            y=values,
            lower=[v - h for v, h in zip(values, halves, strict=True)] if has_band else None,
            upper=[v + h for v, h in zip(values, halves, strict=True)] if has_band else None,
        )

    return panels_of(
        (
            measure,
            [found for owner in owners if (found := curve(owner, measure)) is not None],
        )
        for measure in measures
    )
