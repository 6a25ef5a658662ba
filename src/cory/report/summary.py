"""Where the arms of a comparison ended, in tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cory.algorithm.intervals import estimate, paired_difference
from cory.report.measures import KL, REWARD, Measure
from cory.report.results import MEAN_AGENT, Results, Setting
from cory.report.tables import Cell, Column, Table, measured_columns, words
from cory.report.wording import setting

NOTHING = Cell("–")


@dataclass(frozen=True)
class End:
    """The last evaluation of one model under one setting, by seed."""

    which: Setting
    agent: str
    seeds: Mapping[Any, Mapping[str, Any]]


def summary_tables(results: Results, baseline: str) -> list[Table]:
    """Reward and KL, with their differences to the baseline arm; then everything else."""
    ends = [
        End(which, agent, results.last(which, agent))
        for which in results.settings
        for agent in results.agents
        # The mean of one agent is that agent.
        if agent != MEAN_AGENT or results.team_size(which) > 1
    ]
    ends = [end for end in ends if end.seeds]
    measures = measured_columns([row for end in ends for row in end.seeds.values()])
    aims = [measure for measure in measures if measure in (REWARD, KL)]
    others = [measure for measure in measures if measure not in (REWARD, KL)]
    compared = aims if len(results.arms) > 1 else []
    return [
        _table(
            f"Reward and KL, and their differences to {baseline}" if compared else "Reward and KL",
            ends,
            results,
            [
                *((Column(m.title), _mean_of(m)) for m in aims),
                *(
                    (Column(f"{m.title} − {baseline}"), _difference_of(m, results, baseline))
                    for m in compared
                ),
                (Column("not collapsed"), lambda end: _share_cell(results.alive(end.which))),
            ],
        ),
        _table(
            "Signs of collapse", ends, results, [(Column(m.title), _mean_of(m)) for m in others]
        ),
    ]


def _table(
    caption: str,
    ends: Sequence[End],
    results: Results,
    columns: Sequence[tuple[Column, Callable[[End], Cell]]],
) -> Table:
    """A row per end; what all of them have in common is not repeated in each."""
    own: list[tuple[Column, Callable[[End], Cell]]] = [
        (Column("arm", is_text=True), lambda end: words(end.which.arm)),
        (Column("model", is_text=True), lambda end: words(end.agent)),
    ]
    if len(results.kl_coefs) > 1:
        own.append((Column("η"), lambda end: _value_cell(end.which.kl_coef)))
    if len(results.learning_rates) > 1:
        own.append((Column("lr"), lambda end: _value_cell(end.which.learning_rate)))
    own.append((Column("seeds"), lambda end: Cell(str(len(end.seeds)), len(end.seeds))))
    everything = [*own, *columns]
    rows = [[cell(end) for _, cell in everything] for end in ends]
    return Table(caption, [column for column, _ in everything], rows)


def _mean_of(measure: Measure) -> Callable[[End], Cell]:
    def cell(end: End) -> Cell:
        known = _known(end.seeds, measure)
        if not known:
            return NOTHING
        found = estimate(known.values())
        return Cell(measure.write(found.mean, found.half_width), found.mean)

    return cell


def _difference_of(measure: Measure, results: Results, baseline: str) -> Callable[[End], Cell]:
    """Less the baseline's mean agent with the same seed, η and learning rate."""

    def cell(end: End) -> Cell:
        if end.which.arm == baseline:
            return NOTHING
        other = Setting(baseline, end.which.kl_coef, end.which.learning_rate)
        theirs = results.last(other, MEAN_AGENT)
        mine, others = _known(end.seeds, measure), _known(theirs, measure)
        found = paired_difference(mine, others)
        if not found.count:
            return NOTHING
        sign = "+" if found.mean > 0 else ""
        return Cell(sign + measure.write(found.mean, found.half_width), found.mean)

    return cell


def _known(seeds: Mapping[Any, Mapping[str, Any]], measure: Measure) -> dict[Any, float]:
    """The measure by seed, where it was measured."""
    return {
        seed: row[measure.key] for seed, row in seeds.items() if row.get(measure.key) is not None
    }


def _share_cell(alive: Sequence[bool]) -> Cell:
    return Cell(f"{sum(alive)} of {len(alive)}", sum(alive) / len(alive))


def _value_cell(value: Any) -> Cell:
    return Cell(setting(value), value if isinstance(value, (int, float)) else str(value))
