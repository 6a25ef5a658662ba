"""The figures of a run, from its settings and its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cory.config import CORYConfig
from cory.report.figures import Axis, Curve, Figure, Panel, Span, band, every_so_many, panels_of
from cory.report.measures import HELD_OUT, KL, REWARD, TRAINING, TRANSFER, Measure
from cory.team.roles import role_name, roles_at

Records = Sequence[Mapping[str, Any]]
ITERATIONS = Axis("step", "iteration")
MAX_SPANS = 200
"""Of a strip of roles; more could not be told apart."""


def training_figures(args: CORYConfig, agents: Sequence[str], records: Records) -> list[Figure]:
    """Training samples by agent and, where roles are exchanged, by role."""
    trained = [record for record in records if f"{agents[0]}/task_reward" in record]
    roles = [role_name(place) for place in range(args.num_agents)]
    colours = {name: index for index, name in enumerate([*agents, *roles])}
    last_step = trained[-1]["step"] if trained else 0
    spans = role_spans(args, last_step)
    timeline: dict[str, list[Span]] = {name: [] for name in colours}
    for start, end, order in spans:
        for role, index in zip(roles, order, strict=True):
            agent = agents[index]
            timeline[agent].append(Span(start, end, role, colours[role]))
            timeline[role].append(Span(start, end, agent, colours[agent]))
    answers = "Answers given in training, observers with references in view."
    if not spans:
        answers += " Roles were exchanged too often to show when."
    kinds = (("agent", agents, answers), ("role", roles, ""))
    return [
        Figure(
            key=f"training_by_{kind}",
            title=f"Training samples by {kind}.",
            note=note,
            axes=[ITERATIONS],
            panels=_panels(TRAINING, trained, {owner: colours[owner] for owner in owners}),
            timeline={owner: timeline[owner] for owner in owners} if spans else None,
        )
        # Without exchanges both figures would show the same curves.
        for kind, owners, note in kinds[: 1 if len(spans) == 1 else 2]
    ]


def role_spans(args: CORYConfig, last_step: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Stretches of iterations, counted from 1, with one order of speaking; none if too many.

    >>> role_spans(CORYConfig(role_exchange_period=2), last_step=3)
    [(1, 2, (0, 1)), (3, 3, (1, 0))]
    """
    last_step = max(last_step, 1)
    period = args.role_exchange_period if args.num_agents > 1 else None
    starts = range(0, last_step, period or last_step)
    if len(starts) > MAX_SPANS:
        return []
    return [
        (start + 1, min(start + starts.step, last_step), roles_at(start, args.num_agents, period))
        for start in starts
    ]


def held_out_figure(agents: Sequence[str], records: Records) -> Figure:
    """Each agent alone over the evaluations."""
    colours = {f"eval/{agent}": index for index, agent in enumerate(agents)}
    return Figure(
        key="held_out",
        title="Each agent alone on held-out queries.",
        note="",
        axes=[ITERATIONS],
        panels=_panels(HELD_OUT, records, colours),
    )


def frontier_figure(agents: Sequence[str], records: Records) -> Figure:
    """Each agent alone: reward against KL over the evaluations."""
    curves = [
        curve
        for index, agent in enumerate(agents)
        for curve in curves_of(records, f"eval/{agent}", REWARD, KL, index, index)
    ]
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
    colours = {role_name(place): args.num_agents + place for place in range(args.num_agents)}
    transfer = "" if args.knowledge_transfer else " Without transfer, this is what chance does."
    return Figure(
        key="transfer",
        title="Copying and lift over the iterations.",
        note="A word is copied if it belongs to a run of at least three words (without spaces: "
        "four characters) that stands in an earlier answer." + transfer,
        axes=[ITERATIONS],
        panels=_panels(TRANSFER, records, colours),
    )


def _panels(
    measures: Sequence[Measure], records: Records, colours: Mapping[str, int]
) -> list[Panel]:
    """A panel per measure, with a curve per owner; `colours` names the owners as records do."""
    return panels_of(
        (
            measure,
            [
                curve
                for line, (owner, colour) in enumerate(colours.items())
                for curve in curves_of(records, owner, measure, None, colour, line)
            ],
        )
        for measure in measures
    )


def curves_of(
    records: Records, owner: str, measure: Measure, over: Measure | None, colour: int, line: int
) -> Iterable[Curve]:
    """The curve of an owner's measure over another one, or over iterations; none without values."""
    key, x_key = f"{owner}/{measure.key}", f"{owner}/{over.key}" if over else ITERATIONS.key
    known = [record for record in records if None not in (record.get(key), record.get(x_key))]
    found = every_so_many(known)
    if not found:
        return
    values = [record[key] for record in found]
    yield Curve(
        name=owner.removeprefix("eval/"),
        colour=colour,
        line=line,
        x={over.key if over else ITERATIONS.key: [record[x_key] for record in found]},
        y=values,
        x_half_width=found[-1].get(f"{owner}/{over.interval}") if over else None,
        **band(
            values,
            [record.get(f"{owner}/{measure.interval}") for record in found],
            measure.possible,
        ),
    )
