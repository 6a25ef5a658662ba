"""The figures of a comparison, from what `cory compare` has summed up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from cory.report.figures import ALL, COLOURS, Axis, Curve, Figure, Switch, band, panels_of
from cory.report.measures import ALIVE, HELD_OUT, KL, REWARD, Measure, reward_measure, setting
from cory.report.results import MEAN, Results, Row, Setting

AXES = (
    Axis("step", "iterations"),
    Axis("total_samples", "answers sampled in training"),
    Axis("total_tokens", "tokens in training"),
    Axis("total_seconds", "seconds of training"),
)


def shown_agent(agent: str) -> str:
    """The name of an agent on the page."""
    return "agents' mean" if agent == MEAN else agent


def _switches(results: Results) -> list[Switch]:
    """Which agent, and which of several coefficients and rates."""
    several = (
        ("kl_coef", "η", results.kl_coefs),
        ("learning_rate", "learning rate", results.learning_rates),
    )
    return [
        Switch("agent", "model", {shown_agent(a): shown_agent(a) for a in results.agents}),
        *(
            Switch(key, label, {**{setting(v): setting(v) for v in values}, ALL: "all"})
            for key, label, values in several
            if len(values) > 1
        ),
    ]


def _lines(results: Results) -> Iterator[tuple[str, Setting, dict[str, Any]]]:
    """Every model of every setting, and how its curve looks: colour by arm, line by the rest."""
    rest = list(dict.fromkeys((which.kl_coef, which.learning_rate) for which in results.settings))
    for agent in results.agents:
        for which in results.settings:
            number = rest.index((which.kl_coef, which.learning_rate))
            looks = _looks(results, which.arm, number, len(rest))
            choice = {
                "agent": shown_agent(agent),
                "kl_coef": setting(which.kl_coef),
                "learning_rate": setting(which.learning_rate),
            }
            yield agent, which, {**looks, "choice": choice}


def _looks(results: Results, arm: str, number: int, count: int) -> dict[str, Any]:
    """Of the curve with this number among the `count` curves of an arm.

    Where arms outnumber the colours, the next ones have lines that the first do not use.
    """
    colour = results.arms.index(arm)
    return {"name": arm, "colour": colour, "line": number + colour // len(COLOURS) * count}


def curves_figure(results: Results) -> Figure:
    """Held-out measures over training, on each of the axes."""
    measures = [*_rewards(results), *(each for each in HELD_OUT if each is not REWARD)]

    def curves(measure: Measure) -> Iterator[Curve]:
        for agent, which, looks in _lines(results):
            if points := results.curve(which, agent, measure.key):
                x = {axis.key: [row[axis.key] for row in points] for axis in AXES}
                yield Curve(x=x, **_with_band(points, measure), **looks)

    return Figure(
        key="curves",
        title="Arms over training.",
        note="Lines are means over seeds, bands their 95% intervals (Student's t).",
        axes=AXES,
        panels=panels_of((measure, list(curves(measure))) for measure in measures),
        switches=_switches(results),
    )


def _with_band(rows: Sequence[Row], measure: Measure, key: str | None = None) -> dict[str, Any]:
    """Values and the ends of their 95% band; no band where a point has one seed only.

    They stand in the column `key`, else in the measure's own.
    """
    key = key or measure.key
    values = [row[key] for row in rows]
    halves = [row.get(f"{key}_interval") for row in rows]
    return {"y": values, **band(values, halves, measure.possible)}


def frontier_figure(results: Results) -> Figure:
    """Reward against KL of each setting, from its first evaluation to its last."""

    def curves(reward: Measure) -> list[Curve]:
        return [
            Curve(
                x={KL.key: [row[KL.key] for row in points]},
                x_half_width=points[-1].get(f"{KL.key}_interval"),
                **_with_band(points, reward),
                **looks,
            )
            for agent, which, looks in _lines(results)
            if (points := results.curve(which, agent, reward.key, KL.key))
        ]

    return Figure(
        key="frontier",
        title="Paths of training.",
        note="Means over seeds at each evaluation; the large point is the last, with its 95% "
        "intervals.",
        axes=[Axis(KL.key, KL.label)],
        panels=panels_of((reward, curves(reward)) for reward in _rewards(results)),
        switches=_switches(results),
        marks_end=True,
    )


def frontier_over_coefficients(results: Results) -> Figure:
    """The end of each arm at each η, one curve per arm and learning rate; empty with one η."""
    rewards = _rewards(results) if len(results.kl_coefs) > 1 else []
    return Figure(
        key="frontier_over_coefficients",
        title="Frontier over η.",
        note="Last evaluation of each arm at each KL coefficient, means over seeds.",
        axes=[Axis(KL.key, KL.label)],
        panels=panels_of(
            (reward, list(_curves_over_coefficients(results, reward))) for reward in rewards
        ),
        switches=[switch for switch in _switches(results) if switch.key != "kl_coef"],
    )


def _curves_over_coefficients(results: Results, reward: Measure) -> Iterator[Curve]:
    for agent in results.agents:
        for number, rate in enumerate(results.learning_rates):
            for arm in results.arms:
                cells = [(Setting(arm, eta, rate), agent) for eta in results.kl_coefs]
                ends = [results.ends[cell] for cell in cells if cell in results.ends]
                ends = [end for end in ends if None not in (end[KL.key], end[reward.key])]
                ends.sort(key=lambda end: end[KL.key])
                if ends:
                    yield Curve(
                        **_looks(results, arm, number, len(results.learning_rates)),
                        x={KL.key: [end[KL.key] for end in ends]},
                        y=[end[reward.key] for end in ends],
                        choice={"agent": shown_agent(agent), "learning_rate": setting(rate)},
                    )


def robustness_figure(results: Results) -> Figure:
    """Collapse and final reward by learning rate; empty with one rate."""
    alive: list[Curve] = []
    rewards: dict[str, list[Curve]] = {key: [] for key in results.rewards}
    for number, arm in enumerate(results.arms):
        looks: dict[str, Any] = {"name": arm, "colour": number, "line": number}
        counts = {
            rate: results.alive(arm, rate, *results.kl_coefs) for rate in results.learning_rates
        }
        shares = {rate: number / of for rate, (number, of) in counts.items() if of}
        alive.append(Curve(x={"learning_rate": list(shares)}, y=[*shares.values()], **looks))
        for key in results.rewards:
            if rows := _final_rewards(results, arm, key):
                x = {"learning_rate": [row["learning_rate"] for row in rows]}
                rewards[key].append(
                    Curve(x=x, **_with_band(rows, reward_measure(key), "final_reward"), **looks)
                )
    panels = panels_of([(ALIVE, alive), *((reward_measure(key), rewards[key]) for key in rewards)])
    return Figure(
        key="robustness",
        title="Runs that did not collapse, and the reward they ended with, by learning rate.",
        note="Reward: mean of the agents, over seeds and KL coefficients.",
        axes=[Axis("learning_rate", "learning rate", is_log=True)],
        panels=panels if len(results.learning_rates) > 1 else [],
    )


def _final_rewards(results: Results, arm: str, reward: str) -> list[Row]:
    """Of an arm's mean over agents, by learning rate."""
    return [
        row
        for row in sorted(results.frontier, key=itemgetter("learning_rate"))
        if (row["arm"], row["agent"], row["reward"]) == (arm, MEAN, reward)
        and row["final_reward"] is not None
    ]


def _rewards(results: Results) -> list[Measure]:
    return list(map(reward_measure, results.rewards))
