"""A drawing as SVG text: the same bytes for the same numbers, whatever is installed."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"


@dataclass
class Drawing:
    """Shapes on a white sheet.

    Attributes:
        width: in pixels.
        height: in pixels.
        title: what a screen reader says.
    """

    width: float
    height: float
    title: str
    shapes: list[str] = field(default_factory=list)

    def line(self, start: tuple[float, float], end: tuple[float, float], **style: object) -> None:
        """A straight line."""
        (x1, y1), (x2, y2) = start, end
        place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self.shapes.append(f"<line {place}{_attributes(style)}/>")

    def rectangle(
        self, corner: tuple[float, float], size: tuple[float, float], **style: object
    ) -> None:
        """A rectangle by its upper left corner."""
        place = f'x="{corner[0]:.1f}" y="{corner[1]:.1f}"'
        extent = f'width="{size[0]:.1f}" height="{size[1]:.1f}"'
        self.shapes.append(f"<rect {place} {extent}{_attributes(style)}/>")

    def polygon(self, *points: tuple[float, float], **style: object) -> None:
        """A filled shape."""
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.shapes.append(f'<polygon points="{corners}"{_attributes(style)}/>')

    def circle(self, centre: tuple[float, float], radius: float, **style: object) -> None:
        """A circle."""
        place = f'cx="{centre[0]:.1f}" cy="{centre[1]:.1f}" r="{radius:.1f}"'
        self.shapes.append(f"<circle {place}{_attributes(style)}/>")

    def text(self, place: tuple[float, float], words: str, **style: object) -> None:
        """Words on a baseline."""
        x, y = place
        self.shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}"{_attributes(style)}>{escape(words)}</text>'
        )

    def render(self) -> str:
        """The whole file."""
        size = f'width="{self.width:g}" height="{self.height:g}"'
        box = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img" style="{FONT}">'
        title = f"<title>{escape(self.title)}</title>"
        sheet = '<rect width="100%" height="100%" fill="#ffffff"/>'
        return "\n".join([head, title, sheet, *self.shapes, "</svg>", ""])


def _attributes(style: dict[str, object]) -> str:
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
