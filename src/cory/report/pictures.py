"""Figures of a report as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cory.io.files import replacing
from cory.io.terminal import printable
from cory.report.figures import (
    COLOURS,
    LINES,
    Axis,
    Curve,
    Figure,
    Panel,
    default_choice,
    is_chosen,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 130,
    "svg.hashsalt": "cory",
    # Names are names, not formulas.
    "text.parse_math": False,
}
FORMATS = ("png", "svg", "pdf")
"""For a screen, a page and a paper."""
UNDATED: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
MAX_COLUMNS = 3
SHAPES = ("o", "s", "D", "^", "X", "P", "*")
"""Of points, by the number of their colour."""
MARKED_POINTS = 40
"""A longer curve has no mark at each of its points."""
PANEL_CHARACTERS = 73
"""How much of a legend fits above a panel."""
ENTRY_CHARACTERS = 11
"""What a legend's entry takes beside its name."""


def draw(figure: Figure, path: Path) -> Picture:
    """Write a figure as the page shows it first, on each of its horizontal axes.

    Panels go in rows of up to three where there is one horizontal axis, else down, with a column
    for each axis. The user's own matplotlib figures and settings are not touched.

    Args:
        figure: what is drawn.
        path: of the PNG file; the others of `FORMATS` lie beside it.

    Returns:
        what was drawn.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    across = len(figure.axes)
    if across == 1:
        # Four go two by two.
        across = 2 if len(figure.panels) == 4 else min(len(figure.panels), MAX_COLUMNS)
    pairs = [(panel, axis) for panel in figure.panels for axis in figure.axes]
    rows = -(-len(pairs) // across)
    with matplotlib.rc_context(STYLE):
        picture = Picture(figsize=(4.6 * across, 3.3 * rows + 0.4))
        FigureCanvasAgg(picture)
        places = list(picture.subplots(rows, across, squeeze=False).flat)
        for place, (panel, axis) in zip(places, pairs, strict=False):
            _draw_panel(place, figure, panel, axis)
        for place in places[len(pairs) :]:
            place.set_visible(False)
        _add_legend(picture, places[0], across)
        path.parent.mkdir(parents=True, exist_ok=True)
        for kind in FORMATS:
            with replacing(path.with_suffix(f".{kind}")) as partial:
                # Without the date the same numbers make the same file.
                picture.savefig(partial, format=kind, metadata=UNDATED.get(kind))
    return picture


def _add_legend(picture: Picture, place: Axes, across: int) -> None:
    """One legend for all panels, above them, in as many columns as fit."""
    handles, labels = place.get_legend_handles_labels()
    if handles:
        fitting = PANEL_CHARACTERS * across // (ENTRY_CHARACTERS + max(map(len, labels)))
        columns = max(1, min(fitting, 3 * across, 6))
        picture.legend(handles, labels, loc="outside upper left", ncols=columns)


def _draw_panel(place: Axes, figure: Figure, panel: Panel, axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    if axis.key == "step":
        place.xaxis.set_major_locator(MaxNLocator(integer=True))
    place.set_xlabel(axis.label)
    place.set_ylabel(printable(panel.label))
    if panel.limits is not None:
        place.set_ylim(*panel.limits)
    if axis.is_log:
        # A tick for each value that was tried, none between them.
        values = sorted({x for curve in panel.curves for x in curve.x[axis.key]})
        place.set_xscale("log")
        place.set_xticks(values, [f"{value:g}" for value in values])
        place.minorticks_off()
    choice = default_choice(figure)
    for curve in panel.curves:
        if is_chosen(curve, choice):
            _draw_curve(place, curve, axis, marks_end=figure.marks_end)
    # A thin line wherever a row of the timeline changes.
    rows = (figure.timeline or {}).values()
    exchanges = sorted({span.start for spans in rows for span in spans[1:]})
    for start, label in zip(
        exchanges, ["exchange of roles", *[None] * len(exchanges)], strict=False
    ):
        place.axvline(start - 0.5, color="0.6", linewidth=0.8, linestyle=":", zorder=0, label=label)


def _draw_curve(place: Axes, curve: Curve, axis: Axis, *, marks_end: bool) -> None:
    colour = COLOURS[curve.colour % len(COLOURS)]
    x = curve.x[axis.key]
    options: dict[str, Any] = {"color": colour, "linestyle": LINES[curve.line % len(LINES)]}
    shape = SHAPES[curve.colour % len(SHAPES)]
    marker = {"marker": shape, "markersize": 4} if len(x) <= MARKED_POINTS else {}
    place.plot(x, curve.y, label=printable(curve.name), **options, **marker)
    if curve.lower is not None and curve.upper is not None and not marks_end:
        place.fill_between(x, curve.lower, curve.upper, color=colour, alpha=0.15, linewidth=0)
    if marks_end:
        y_half_width = None if curve.upper is None else curve.upper[-1] - curve.y[-1]
        place.errorbar(
            x[-1:], curve.y[-1:], y_half_width, curve.x_half_width, color=colour, capsize=3
        )
        place.plot(x[-1:], curve.y[-1:], marker=shape, markersize=9, color=colour)
