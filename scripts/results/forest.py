"""The forest plot on top of the results: teams less matched PPO, by task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cory.algorithm.intervals import Estimate, estimate
from scripts.results.columns import DECIMALS, Row, interval_text
from scripts.results.evaluations import MEAN, Evaluations
from scripts.results.svg import Drawing

MATCHED = "ppo-2x-ema"
WIDTH = 1040
TOP = 118
ROW_HEIGHT = 19
GAP = 15
LIMIT = 50.0
"""Largest difference on the axis, in per cent of what matched PPO has."""
GRID = (-50, -25, 0, 25, 50)
INK, MUTED, RULE = "#1f2328", "#59636e", "#d1d9e0"
BETTER, WORSE, UNSURE = "#0072B2", "#D55E00", "#6e7781"


@dataclass(frozen=True)
class Task:
    """A task and the teams that were compared on it."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Panel:
    """One measure: where its axis lies, and which sign is better."""

    name: str
    title: str
    left: float
    right: float
    text: float
    sign: int

    def x(self, share: float) -> float:
        """Where a difference lies, in per cent, kept on the axis."""
        inside = max(-LIMIT, min(LIMIT, share))
        return self.left + (inside + LIMIT) / (2 * LIMIT) * (self.right - self.left)


PANELS = (
    Panel("reward", "Reward (more is better →)", 255, 505, 622, +1),
    Panel("KL", "KL to the initial model (← less is better)", 655, 905, 1022, -1),
)


def _teams(experiment: str, *teams: tuple[str, str]) -> list[Row]:
    return [Row(experiment, arm, label, baseline=MATCHED) for arm, label in teams]


CORY, TEAM = ("cory", "the paper's team"), ("team", "preset team")
BACK, LIFT = ("team-back-1", "team, transfer back 1"), ("team-lift-samples", "team, transfer ends")
TASKS = (
    Task("arithmetic", _teams("arithmetic", CORY, TEAM, BACK)),
    Task("arithmetic, one habit", _teams("one-habit", CORY, TEAM)),
    Task("reviews", _teams("reviews", CORY, TEAM)),
    Task("sparse (reward is rare)", [*_teams("sparse", CORY), *_teams("sparse-lift", TEAM)]),
    Task("rare: made for the question", _teams("rare", CORY, LIFT)),
    Task("rarest: made for the question", _teams("rarest", LIFT)),
    Task("misled: made for the question", _teams("misled", TEAM, BACK)),
    Task("second look: made for the question", _teams("second-look", CORY, TEAM, BACK)),
)


def draw(experiments: Mapping[str, Evaluations]) -> str:
    """The plot as SVG."""
    height = TOP + sum(GAP + ROW_HEIGHT * (1 + len(task.rows)) for task in TASKS) + 30
    drawing = Drawing(WIDTH, height, "Teams less PPO at equal samples, reward and KL, by task")
    _head(drawing)
    y = float(TOP)
    for number, task in enumerate(TASKS):
        depth = ROW_HEIGHT * (1 + len(task.rows)) + GAP
        if number % 2 == 0:
            drawing.rectangle((8, y - 4), (WIDTH - 16, depth), fill="#f6f8fa")
        y += depth
    _grid(drawing, height)
    y = float(TOP)
    for task in TASKS:
        drawing.text((16, y + 12), task.title, fill=INK, font_size=13, font_weight="600")
        for row in task.rows:
            y += ROW_HEIGHT
            _row(drawing, y + 8, row, experiments[row.experiment])
        y += ROW_HEIGHT + GAP
    return drawing.render()


def _head(drawing: Drawing) -> None:
    title = "Teams of two less PPO with the same samples and averaged weights (ppo-2x-ema)"
    drawing.text((16, 28), title, fill=INK, font_size=17, font_weight="600")
    drawing.text(
        (16, 48),
        "Each agent alone on the plain query, at the last iteration. Axis: per cent of PPO's gain "
        "in reward, and of PPO's KL. Bars: 95% intervals over seeds.",
        fill=MUTED,
        font_size=12,
    )
    legend = ((16, BETTER, "better"), (96, WORSE, "worse"), (174, UNSURE, "interval holds 0"))
    for x, colour, words in legend:
        drawing.line((x, 66), (x + 22, 66), stroke=colour, stroke_width=2)
        drawing.circle((x + 11, 66), 4, fill=colour)
        drawing.text((x + 28, 70), words, fill=MUTED, font_size=12)
    drawing.text(
        (338, 70),
        "◂ beyond the axis. Numbers beside a panel are in the units of reward and KL.",
        fill=MUTED,
        font_size=12,
    )
    for panel in PANELS:
        middle = (panel.left + panel.right) / 2
        drawing.text(
            (middle, 94),
            panel.title,
            fill=INK,
            font_size=13,
            font_weight="600",
            text_anchor="middle",
        )


def _grid(drawing: Drawing, height: float) -> None:
    for panel in PANELS:
        for share in GRID:
            x = panel.x(share)
            strong = share == 0
            drawing.line(
                (x, TOP - 4),
                (x, height - 30),
                stroke=MUTED if strong else RULE,
                stroke_width=1.2 if strong else 0.8,
            )
            words = f"{share:+d}%".replace("-", "−") if share else "0"
            drawing.text((x, height - 14), words, fill=MUTED, font_size=11, text_anchor="middle")


def _row(drawing: Drawing, y: float, row: Row, evaluations: Evaluations) -> None:
    seeds = len(evaluations.difference(row.arm, MEAN, MATCHED, "reward"))
    drawing.text((28, y + 4), row.label, fill=INK, font_size=12)
    drawing.text(
        (PANELS[0].left - 12, y + 4),
        f"{seeds} seeds",
        fill=MUTED,
        font_size=11,
        text_anchor="end",
    )
    for panel in PANELS:
        found = estimate(evaluations.difference(row.arm, MEAN, MATCHED, panel.name).values())
        _mark(drawing, panel, y, found, scale(panel.name, evaluations))
        drawing.text(
            (panel.text, y + 4),
            interval_text(found, DECIMALS[panel.name], plus=True),
            fill=colour_of(found, panel.sign),
            font_size=12,
            text_anchor="end",
        )


def _mark(drawing: Drawing, panel: Panel, y: float, found: Estimate, unit: float) -> None:
    """The interval as a bar, the mean as a dot; an arrow where it lies beyond the axis."""
    mean, half = found.mean / unit, found.half_width / unit
    colour = colour_of(found, panel.sign)
    low, high = panel.x(mean - half), panel.x(mean + half)
    if abs(mean) > LIMIT:
        way = math.copysign(1, mean)
        tip = panel.x(way * LIMIT)
        drawing.polygon((tip, y), (tip - way * 9, y - 5), (tip - way * 9, y + 5), fill=colour)
        return
    drawing.line((low, y), (high, y), stroke=colour, stroke_width=2)
    drawing.circle((panel.x(mean), y), 4, fill=colour)


def colour_of(found: Estimate, sign: int) -> str:
    """Whether the difference is surely better or surely worse; `sign` of what is better."""
    if abs(found.mean) <= found.half_width:
        return UNSURE
    return BETTER if found.mean * sign > 0 else WORSE


def scale(name: str, evaluations: Evaluations) -> float:
    """One per cent of what matched PPO has: its gain in reward, or its KL."""
    end = estimate(evaluations.at_end(MATCHED, MEAN, name).values()).mean
    start = evaluations.at(MATCHED, MEAN, name, "iterations", 0) if name == "reward" else {}
    return (end - (estimate(start.values()).mean if start else 0.0)) / 100
