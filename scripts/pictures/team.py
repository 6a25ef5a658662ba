"""Draw docs/pictures/team.svg: pioneer and observer, and what a team and PPO learn.

    python -m scripts.pictures.team [FILE]

The curves are read from stored results in experiments/pocket/results. The same tables give the
same bytes. The picture carries its own background, light or dark as the reader prefers.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "pocket" / "results"
PICTURE = ROOT / "docs" / "pictures" / "team.svg"
WIDTH, HEIGHT = 880, 492
T_QUANTILES = {3: 4.303, 5: 2.776}
"""Student's 97.5% quantile by number of seeds."""

ARMS = {
    "ppo-2x": "PPO",
    "ppo-2x-ema": "PPO, EMA weights",
    "team": "preset team",
    "cory": "the paper's team",
}
STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de; }
  text { fill: #1f2328; font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial,
    sans-serif; }
  .title { font-weight: 600; }
  .small { font-size: 12px; fill: #59636e; }
  .middle { text-anchor: middle; }
  .end { text-anchor: end; }
  .box { fill: #f6f8fa; stroke: #818b98; }
  .agent { fill: #ddf4ff; stroke: #0969da; }
  .arrow { fill: none; stroke: #59636e; stroke-width: 1.5; marker-end: url(#head); }
  .both { marker-start: url(#head); }
  .head { fill: #59636e; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  path.curve { fill: none; stroke-width: 2.2; }
  path.band { stroke: none; opacity: 0.16; }
  .ppo-2x { stroke: #0072b2; fill: #0072b2; stroke-dasharray: 5 3; }
  .ppo-2x-ema { stroke: #0072b2; fill: #0072b2; }
  .team { stroke: #d55e00; fill: #d55e00; }
  .cory { stroke: #8250df; fill: #8250df; stroke-dasharray: 2 3; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d; }
    text { fill: #f0f6fc; }
    .small { fill: #9198a1; }
    .box { fill: #151b23; stroke: #656c76; }
    .agent { fill: #121d2f; stroke: #4493f8; }
    .arrow { stroke: #9198a1; }
    .head { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    path.band { opacity: 0.25; }
    .ppo-2x, .ppo-2x-ema { stroke: #58a6ff; fill: #58a6ff; }
    .team { stroke: #f0883e; fill: #f0883e; }
    .cory { stroke: #bc8cff; fill: #bc8cff; }
  }
"""


@dataclass(frozen=True)
class Curve:
    """An arm's held-out reward: mean and half 95% interval over seeds, by answers sampled."""

    arm: str
    samples: list[float]
    rewards: list[float]
    intervals: list[float]


@dataclass(frozen=True)
class Chart:
    """Where a chart stands, and how far its axes go."""

    left: float
    top: float
    width: float
    height: float
    most_samples: float
    tick: int

    def x(self, samples: float) -> float:
        return self.left + self.width * samples / self.most_samples

    def y(self, reward: float) -> float:
        return self.top + self.height * (1 - min(max(reward, 0), 1))


def main(file: Path = PICTURE) -> None:
    """Write the picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(picture(), encoding="utf-8")


def picture() -> str:
    """The whole SVG."""
    sums = Chart(60, 306, 360, 132, 30_720, tick=10_000)
    made = Chart(496, 306, 360, 132, 15_360, tick=5_000)
    title = "A pioneer and an observer, and their held-out reward beside PPO's"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse">'
        '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
        *diagram(),
        *legend(24, 234),
        *chart(
            sums,
            "arithmetic: at first 23% right, 70% as observer",
            learning_curves(["arithmetic/results.csv"]),
        ),
        *chart(
            made,
            "made for a team: at first 1% right, 67% as observer",
            learning_curves(["convinced-eta/results.csv", "convinced-eta/results-cory.csv"]),
        ),
        "</svg>\n",
    ]
    return "\n".join(parts)


def diagram() -> list[str]:
    """Who sees what, and who is paid for what."""
    return [
        *box(24, 64, 110, 52, "box", "query"),
        *box(236, 24, 132, 48, "agent", "pioneer", "agent 0"),
        *box(236, 128, 132, 48, "agent", "observer", "agent 1"),
        *box(468, 24, 110, 48, "box", "answer 1"),
        *box(468, 128, 110, 48, "box", "answer 2"),
        *box(676, 56, 180, 88, "box", "PPO update of each", "reward 1 + reward 2", "− η · own KL"),
        arrow("M134 80L232 52"),
        arrow("M134 100L232 146"),
        arrow("M368 48H464"),
        arrow("M368 152H464"),
        arrow("M492 72L372 138"),
        arrow("M578 52L672 82"),
        arrow("M578 148L672 118"),
        arrow("M302 76V124", "both"),
        text(294, 105, "roles exchanged", "small end"),
        text(448, 114, "in view", "small"),
        text(632, 56, "reward 1", "small middle"),
        text(632, 152, "reward 2", "small middle"),
        text(24, 206, "Afterwards each agent is used alone, on the plain query.", "small"),
    ]


def legend(left: float, y: float) -> list[str]:
    """A line and a name for each arm."""
    parts = [text(left, y, "At equal samples:", "title")]
    at = left + 142
    for arm, name in ARMS.items():
        parts.append(f'<path class="curve {arm}" d="M{at:g} {y - 4:g}h30"/>')
        parts.append(text(at + 38, y, name))
        at += 68 + 7.3 * len(name)
    return parts


def chart(at: Chart, title: str, curves: Sequence[Curve]) -> list[str]:
    """Axes and curves."""
    what = "share right, each agent alone, held out; band: 95% over seeds"
    parts = [
        text(at.left - 36, at.top - 38, title, "title"),
        text(at.left - 36, at.top - 18, what, "small"),
    ]
    for reward in (0.0, 0.5, 1.0):
        y = at.y(reward)
        parts.append(f'<path class="grid" d="M{at.left:g} {y:g}h{at.width:g}"/>')
        parts.append(text(at.left - 8, y + 4, f"{reward:g}", "small end"))
    for samples in range(0, int(at.most_samples) + 1, at.tick):
        label = f"{samples:,}"
        parts.append(text(at.x(samples), at.top + at.height + 18, label, "small middle"))
    label = "answers sampled in training"
    parts.append(text(at.left + at.width / 2, at.top + at.height + 38, label, "small middle"))
    for curve in curves:
        parts.append(f'<path class="{curve.arm} band" d="{band(at, curve)}"/>')
    for curve in curves:
        points = zip(curve.samples, curve.rewards, strict=True)
        parts.append(f'<path class="{curve.arm} curve" d="{line(at, list(points))}"/>')
    return parts


def line(at: Chart, points: Sequence[tuple[float, float]]) -> str:
    """Points joined by straight lines, as the data of a path."""
    return "M" + "L".join(f"{at.x(samples):.1f} {at.y(reward):.1f}" for samples, reward in points)


def band(at: Chart, curve: Curve) -> str:
    """The 95% interval around a curve, as the data of a path."""
    rows = list(zip(curve.samples, curve.rewards, curve.intervals, strict=True))
    upper = [(samples, reward + half) for samples, reward, half in rows]
    lower = [(samples, reward - half) for samples, reward, half in reversed(rows)]
    return line(at, upper + lower) + "z"


def learning_curves(files: Sequence[str]) -> list[Curve]:
    """The curves of `ARMS` in these tables; a team's agents are averaged before seeds are.

    Args:
        files: tables of runs below experiments/pocket/results.
    """
    rewards: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    for name in files:
        with (RESULTS / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                place = (row["arm"], float(row["total_samples"]), row["seed"])
                rewards[place].append(float(row["task_reward"]))
    return [_curve(arm, rewards) for arm in ARMS]


def _curve(arm: str, rewards: dict[tuple[str, float, str], list[float]]) -> Curve:
    by_samples: dict[float, list[float]] = defaultdict(list)
    for (name, samples, _), agents in rewards.items():
        if name == arm:
            by_samples[samples].append(mean(agents))
    samples = sorted(by_samples)
    return Curve(
        arm,
        samples,
        [mean(by_samples[at]) for at in samples],
        [_half_interval(by_samples[at]) for at in samples],
    )


def _half_interval(seeds: Sequence[float]) -> float:
    return T_QUANTILES[len(seeds)] * stdev(seeds) / math.sqrt(len(seeds))


def box(x: float, y: float, width: float, height: float, kind: str, *lines: str) -> list[str]:
    """A rectangle with lines of text in its middle, the first one in bold."""
    parts = [
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'
    ]
    for row, words in enumerate(lines):
        baseline = y + height / 2 + 5 + 19 * (row - (len(lines) - 1) / 2)
        look = "middle title" if row == 0 else "middle small"
        parts.append(text(x + width / 2, baseline, words, look))
    return parts


def arrow(path: str, look: str = "") -> str:
    """An arrow along the data of a path."""
    return f'<path class="{f"arrow {look}".strip()}" d="{path}"/>'


def text(x: float, y: float, words: str, look: str = "") -> str:
    """A line of text."""
    attribute = f' class="{look}"' if look else ""
    return f'<text{attribute} x="{x:g}" y="{y:g}">{escape(words)}</text>'


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
