"""The figures of a comparison, from its table of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cory.algorithm.intervals import Estimate, estimate
from cory.report.figures import ALL, Axis, Curve, Figure, Switch, panels_of
from cory.report.measures import ALIVE, HELD_OUT, KL, REWARD, Measure
from cory.report.results import Results, Setting
from cory.report.style import COLOURS
from cory.report.wording import setting

AXES = (
    Axis("step", "iterations"),
    Axis("total_samples", "answers sampled in training"),
    Axis("total_tokens", "tokens in training"),
    Axis("total_seconds", "seconds of training"),
)


def _switches(results: Results) -> list[Switch]:
    """Which agent, and which of several coefficients and rates."""
    several = (
        ("kl_coef", "η", results.kl_coefs),
        ("learning_rate", "learning rate", results.learning_rates),
    )
    return [
        Switch("agent", "model", {agent: agent for agent in results.agents}),
        *(
            Switch(key, label, {**{setting(v): setting(v) for v in values}, ALL: "all"})
            for key, label, values in several
            if len(values) > 1
        ),
    ]


def _choice(agent: str, which: Setting) -> dict[str, str]:
    return {
        "agent": agent,
        "kl_coef": setting(which.kl_coef),
        "learning_rate": setting(which.learning_rate),
    }


def _lines(results: Results) -> Iterator[tuple[str, Setting, dict[str, Any]]]:
    """Every model of every setting, and how its curve looks: colour by arm, line by the rest."""
    rest = list(dict.fromkeys((which.kl_coef, which.learning_rate) for which in results.settings))
    for agent in results.agents:
        for which in results.settings:
            number = rest.index((which.kl_coef, which.learning_rate))
            looks = _looks(results, which.arm, number, len(rest))
            yield agent, which, {**looks, "choice": _choice(agent, which)}


def _looks(results: Results, arm: str, number: int, count: int) -> dict[str, Any]:
    """Of the curve with this number among the `count` curves of an arm.

    Where arms outnumber the colours, the next ones have lines that the first do not use.
    """
    colour = results.arms.index(arm)
    return {"name": arm, "colour": colour, "line": number + colour // len(COLOURS) * count}


def curves_figure(results: Results) -> Figure:
    """Held-out measures over training, on each of the axes."""

    def curves(measure: Measure) -> list[Curve]:
        found = []
        for agent, which, looks in _lines(results):
            points = results.over_steps(which, agent, measure.key)
            if points:
                means = [estimate(seeds.values()) for seeds in points.values()]
                x = {axis.key: results.places(which, list(points), axis.key) for axis in AXES}
                y = [mean.mean for mean in means]
                found.append(Curve(x=x, y=y, **_band(means), **looks))
        return found

    return Figure(
        key="curves",
        title="Arms over training.",
        note="Lines are means over seeds, bands their 95% intervals (Student's t).",
        axes=AXES,
        panels=panels_of((measure, curves(measure)) for measure in HELD_OUT),
        switches=_switches(results),
    )


def _band(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Ends of the 95% band; none where a point has one seed only."""
    if any(found.count < 2 for found in estimates):
        return {}
    return {
        "lower": [found.mean - found.half_width for found in estimates],
        "upper": [found.mean + found.half_width for found in estimates],
    }


def frontier_figure(results: Results) -> Figure:
    """Where each setting went, from its first evaluation to its last."""
    curves = []
    for agent, which, looks in _lines(results):
        rewards = results.over_steps(which, agent, REWARD.key)
        costs = results.over_steps(which, agent, KL.key)
        steps = [step for step in rewards if step in costs]
        if steps:
            cost = [estimate(costs[step].values()) for step in steps]
            reward = [estimate(rewards[step].values()) for step in steps]
            curves.append(
                Curve(
                    x={KL.key: [found.mean for found in cost]},
                    y=[found.mean for found in reward],
                    x_half_width=cost[-1].half_width if cost[-1].count > 1 else None,
                    **_band(reward),
                    **looks,
                )
            )
    return Figure(
        key="frontier",
        title="Paths of training.",
        note="Means over seeds at each evaluation; the large point is the last, with its 95% "
        "intervals.",
        axes=[Axis(KL.key, KL.label)],
        panels=panels_of([(REWARD, curves)]),
        switches=_switches(results),
        marks_end=True,
    )


def frontier_over_coefficients(results: Results) -> list[Figure]:
    """Where each arm ended at each η; one curve per arm and learning rate."""
    if len(results.kl_coefs) < 2:
        return []
    curves = []
    for agent in results.agents:
        for number, rate in enumerate(results.learning_rates):
            for arm in results.arms:
                ends = [
                    end
                    for coefficient in results.kl_coefs
                    if (end := results.end(Setting(arm, coefficient, rate), agent)) is not None
                ]
                ends.sort(key=lambda end: end[KL.key])
                if ends:
                    curves.append(
                        Curve(
                            **_looks(results, arm, number, len(results.learning_rates)),
                            x={KL.key: [end[KL.key] for end in ends]},
                            y=[end[REWARD.key] for end in ends],
                            choice={"agent": agent, "learning_rate": setting(rate)},
                        )
                    )
    return [
        Figure(
            key="frontier_over_coefficients",
            title="Frontier over η.",
            note="Last evaluation of each arm at each KL coefficient, means over seeds.",
            axes=[Axis(KL.key, KL.label)],
            panels=panels_of([(REWARD, curves)]),
            switches=[switch for switch in _switches(results) if switch.key != "kl_coef"],
        )
    ]


def robustness_figures(results: Results) -> list[Figure]:
    """What became of the runs by learning rate; nothing where there is one rate only."""
    if len(results.learning_rates) < 2:
        return []
    alive, varied = [], []
    for colour, arm in enumerate(results.arms):
        looks: dict[str, Any] = {"name": arm, "colour": colour, "line": colour}
        shares = {rate: results.share_alive(arm, rate) for rate in results.learning_rates}
        found = {rate: share for rate, share in shares.items() if share is not None}
        alive.append(Curve(x={"learning_rate": list(found)}, y=[*found.values()], **looks))
        ends = {rate: results.end_over_coefficients(arm, rate, REWARD.key) for rate in found}
        known = {rate: values for rate, values in ends.items() if values}
        means = [estimate(values) for values in known.values()]
        if means:
            y = [found.mean for found in means]
            varied.append(Curve(x={"learning_rate": list(known)}, y=y, **_band(means), **looks))
    return [
        Figure(
            key="robustness",
            title="Runs that did not collapse, and the reward they ended with, by learning rate.",
            note="Reward: mean of the agents, over seeds and KL coefficients.",
            axes=[Axis("learning_rate", "learning rate", is_log=True)],
            panels=panels_of([(ALIVE, alive), (REWARD, varied)]),
        )
    ]
