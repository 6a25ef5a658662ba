"""What a report draws, described once: the page draws it with plotly, PNG files with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cory.report.measures import Measure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES, DASHES = ("-", "--", "-.", ":"), ("solid", "dash", "dashdot", "dot")
"""Line styles as matplotlib and as plotly names them; a curve has the number of its colour and of
its line style."""
MAX_POINTS = 1000
"""Points of one curve; of longer ones every second, third … is drawn."""


@dataclass(frozen=True)
class Axis:
    """A horizontal axis: which of a curve's `x` it shows."""

    key: str
    label: str
    is_log: bool = False


@dataclass(frozen=True)
class Switch:
    """A choice that the reader has; the first option stands until another one is taken.

    `options` maps the values that curves name in their `choice` to what the reader sees. The value
    `ALL` takes every curve.
    """

    key: str
    label: str
    options: Mapping[str, str]


ALL = "*"


@dataclass(frozen=True)
class Curve:
    """Points with a name; equal names share an entry of the legend.

    Args:
        colour: number in the palette, and of the shape of its points.
        line: number of the line style.
        x: values by the key of the axis.
        lower: end of the 95% band at each point, as is `upper`; None: no band.
        x_half_width: half the 95% interval of the last x, where x is measured, too.
        choice: where switches must stand for this curve to be drawn, by their key.
    """

    name: str
    colour: int
    line: int
    x: Mapping[str, Sequence[float]]
    y: Sequence[float]
    lower: Sequence[float] | None = None
    upper: Sequence[float] | None = None
    x_half_width: float | None = None
    choice: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One pair of axes; `limits` are those of the vertical one, None: as the curves need it."""

    label: str
    curves: Sequence[Curve]
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Span:
    """A stretch of a timeline: from iteration `start` to `end`, both included."""

    start: float
    end: float
    name: str
    colour: int


@dataclass(frozen=True)
class Figure:
    """Panels under one caption, with one legend.

    `key` names the PNG file. `timeline` is a strip under each panel: for each row, who or what it
    was, and when. `marks_end` is for curves that may turn back, whose horizontal axis is not time:
    the last point is drawn larger and has its intervals, and there are no bands.
    """

    key: str
    title: str
    note: str
    axes: Sequence[Axis]
    panels: Sequence[Panel]
    switches: Sequence[Switch] = ()
    timeline: Mapping[str, Sequence[Span]] | None = None
    marks_end: bool = False


def default_choice(figure: Figure) -> dict[str, str]:
    """The option of each switch before the reader chooses."""
    return {switch.key: next(iter(switch.options)) for switch in figure.switches}


def is_chosen(curve: Curve, choice: Mapping[str, str]) -> bool:
    """Whether a curve is drawn where these options are chosen."""
    return all(choice.get(key, value) in (ALL, value) for key, value in curve.choice.items())


def band(
    values: Sequence[float],
    half_widths: Sequence[float | None],
    possible: tuple[float, float] = (-math.inf, math.inf),
) -> dict[str, Any]:
    """`lower` and `upper` of a curve with these intervals; nothing if one of them is unknown.

    A band ends where no value is `possible`: a share is none above 1.

    >>> band([0.9], [0.2], possible=(0, 1))
    {'lower': [0.7], 'upper': [1]}
    """
    pairs = [(y, half) for y, half in zip(values, half_widths, strict=True) if half is not None]
    if len(pairs) < len(values):
        return {}
    least, most = possible
    return {
        "lower": [max(y - half, min(least, y)) for y, half in pairs],
        "upper": [min(y + half, max(most, y)) for y, half in pairs],
    }


def every_so_many(records: Sequence[Any], most: int = MAX_POINTS) -> Sequence[Any]:
    """At most `most` of the records, evenly apart, the last one among them."""
    stride = -(-len(records) // most)
    return records[::-1][:: max(stride, 1)][::-1]


def panels_of(measured: Iterable[tuple[Measure, Sequence[Curve]]]) -> list[Panel]:
    """Panels of those measures of which there is anything."""
    return [Panel(measure.label, curves, measure.limits) for measure, curves in measured if curves]
