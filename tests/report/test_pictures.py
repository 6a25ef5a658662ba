"""PNG files: what is drawn, from what, and that nobody else's figures are touched."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes

from cory.io.terminal import printable
from cory.report.figures import (
    ALL,
    COLOURS,
    Axis,
    Curve,
    Figure,
    Panel,
    Span,
    Switch,
)
from cory.report.pictures import MARKED_POINTS, draw

BAND: dict[str, Any] = {"lower": [0.0, 0.5, 0.75], "upper": [1.0, 1.5, 1.25]}
STEPS, SAMPLES = [0.0, 2.0, 4.0], [0.0, 64.0, 128.0]


def curve(name: str = "ppo", number: int = 0, **changes: Any) -> Curve:
    plain = {"x": {"step": STEPS, "samples": SAMPLES}, "y": [0.5, 1.0, 1.0]}
    return Curve(**{"name": name, "colour": number, "line": number, **plain, **changes})


def figure(*curves: Curve, **changes: Any) -> Figure:
    plain = {"axes": [Axis("step", "iteration")], "panels": [Panel("reward", curves)]}
    return Figure(**{"key": "x", "title": "", "note": "", **plain, **changes})


def lines(place: Axes) -> dict[str, list[tuple[float, float]]]:
    """Points of the curves, by what the legend calls them."""
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in place.lines
        if not str(line.get_label()).startswith("_")
    }


def test_curves_and_bands_are_drawn_on_each_axis(tmp_path: Path) -> None:
    """Prevents a PNG file that has another curve, axis or band than the page."""
    axes = [Axis("step", "iteration"), Axis("samples", "answers")]
    drawn = draw(figure(curve(**BAND), curve("cory", 1), axes=axes), tmp_path / "a" / "x.png")
    for place, x in zip(drawn.axes, (STEPS, SAMPLES), strict=True):
        points = [*zip(x, [0.5, 1.0, 1.0], strict=True)]
        assert lines(place) == {"ppo": points, "cory": points}
        assert [line.get_color() for line in place.lines] == list(COLOURS[:2])
        assert place.lines[0].get_linestyle() != place.lines[1].get_linestyle()
        (band,) = place.collections
        corners = {(float(x), float(y)) for x, y in band.get_paths()[0].vertices}
        edges = [*zip(x, BAND["lower"], strict=True), *zip(x, BAND["upper"], strict=True)]
        assert corners >= set(edges)
    assert [place.get_xlabel() for place in drawn.axes] == ["iteration", "answers"]
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ppo", "cory"]
    assert (tmp_path / "a" / "x.svg").read_text().rstrip().endswith("</svg>")
    assert (tmp_path / "a" / "x.pdf").read_bytes().startswith(b"%PDF")
    header = (tmp_path / "a" / "x.png").read_bytes()[:24]
    width, height = map(round, drawn.get_size_inches() * 130)
    assert struct.unpack(">8s4x4s2I", header) == (b"\x89PNG\r\n\x1a\n", b"IHDR", width, height)


def test_only_what_the_page_shows_first_is_drawn(tmp_path: Path) -> None:
    """Prevents curves of every agent and coefficient on top of each other."""
    found = figure(
        curve("first", choice={"agent": "mean"}),
        curve("second", choice={"agent": "agent_0"}),
        curve("both"),
        switches=[Switch("agent", "model", {"mean": "mean", "agent_0": "agent_0", ALL: "all"})],
    )
    assert list(lines(draw(found, tmp_path / "x.png").axes[0])) == ["first", "both"]


def test_the_end_of_a_path_is_marked_with_its_intervals(tmp_path: Path) -> None:
    """Prevents a path whose end looks like its beginning, and a band around what turns back."""
    found = figure(curve(x_half_width=1.5, **BAND), marks_end=True)
    (place,) = draw(found, tmp_path / "x.png").axes
    end = place.lines[-1]
    assert (end.get_xydata() == [[4.0, 1.0]]).all()
    assert end.get_markersize() > place.lines[0].get_markersize()
    bars = [collection.get_paths()[0].vertices.tolist() for collection in place.collections]
    assert bars == [[[2.5, 1.0], [5.5, 1.0]], [[4.0, 0.75], [4.0, 1.25]]]


def test_panels_stand_in_rows(tmp_path: Path) -> None:
    """Prevents panels that are missing, or empty axes beside them."""
    for number, (rows, columns) in {1: (1, 1), 3: (1, 3), 4: (2, 2), 5: (2, 3)}.items():
        panels = [Panel(f"panel {index}", [curve()], (0.0, 2.0)) for index in range(number)]
        drawn = draw(figure(panels=panels), tmp_path / "x.png")
        seen = [place for place in drawn.axes if place.get_visible()]
        assert [place.get_ylabel() for place in seen] == [panel.label for panel in panels]
        assert {place.get_ylim() for place in seen} == {(0.0, 2.0)}
        grid = drawn.axes[0].get_gridspec()
        assert (grid.nrows, grid.ncols) == (rows, columns)


def test_values_that_were_tried_are_the_ticks_of_a_logarithmic_axis(tmp_path: Path) -> None:
    """Prevents an axis of learning rates that names none of them."""
    rates = curve(x={"rate": [1e-4, 1e-3, 1e-2]})
    found = figure(rates, axes=[Axis("rate", "learning rate", is_log=True)])
    (place,) = draw(found, tmp_path / "x.png").axes
    assert place.get_xscale() == "log"
    assert [label.get_text() for label in place.get_xticklabels()] == ["0.0001", "0.001", "0.01"]


def test_exchanges_are_marked_between_the_iterations_that_they_part(tmp_path: Path) -> None:
    """Prevents marks that are off by one, or where nothing is exchanged."""
    spans = [Span(1, 2, "pioneer", 0), Span(3, 4, "observer", 1)]
    for timeline, marks in (({"agent_0": spans}, [2.5]), (None, [])):
        (place,) = draw(figure(curve(), timeline=timeline), tmp_path / "x.png").axes
        assert [line.get_xdata()[0] for line in place.lines[1:]] == marks


def test_long_curves_have_no_marks(tmp_path: Path) -> None:
    """Prevents a training of a thousand iterations from being drawn as a row of dots."""
    for length, marker in ((MARKED_POINTS, "o"), (MARKED_POINTS + 1, "None")):
        long = curve(x={"step": list(range(length))}, y=[1.0] * length)
        assert draw(figure(long), tmp_path / "x.png").axes[0].lines[0].get_marker() == marker


def test_the_users_own_figures_are_not_touched(tmp_path: Path) -> None:
    """Prevents plots that need a display, or that leave pyplot or its settings changed."""
    had_pyplot, settings = "matplotlib.pyplot" in sys.modules, dict(rcParams)
    draw(figure(curve()), tmp_path / "x.png")
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert dict(rcParams) == settings


def test_names_are_names(tmp_path: Path) -> None:
    """Prevents a name with dollar signs from ending a report, or being set as a formula."""
    name = "$\\frac{1}{$ \u202e\0"
    (legend,) = draw(figure(curve(name)), tmp_path / "x.png").legends
    (text,) = legend.get_texts()
    assert text.get_text() == printable(name)
    assert not text.get_parse_math()
