"""The plots of a comparison as PNG files, in the style of `cory.plots`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cory.compare.statistics import estimate, pareto_front
from cory.compare.summary import COSTS, with_derived_agents
from cory.plots import ITERATIONS, KL, REWARD, figure, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COST_LABELS = {
    "step": ITERATIONS,
    COSTS["samples"]: "answers sampled in training",
    COSTS["tokens"]: "tokens read and written in training",
    COSTS["seconds"]: "seconds of training",
}


def draw_all(table: pd.DataFrame, survivors: pd.DataFrame, plots: Path) -> list[Path]:
    """Draw what the tables can show.

    Args:
        table: all evaluations.
        survivors: of `summary.robustness`.
        plots: folder of the files.

    Returns:
        the PNG files: curves for each KL coefficient and learning rate, the frontier, and, if there
        are several learning rates, who survived which.
    """
    plots.mkdir(parents=True, exist_ok=True)
    cells = list(table.groupby(["kl_coef", "learning_rate"]))
    written = []
    for (kl_coef, rate), cell in cells:
        name = "curves" if len(cells) == 1 else f"curves-kl{kl_coef:g}-lr{rate:g}"
        written.append(draw_curves(cell, plots / f"{name}.png"))
    written.append(draw_frontier(table, plots / "frontier.png"))
    if table["learning_rate"].nunique() > 1:
        written.append(draw_robustness(survivors, plots / "robustness.png"))
    return written


def draw_curves(cell: pd.DataFrame, path: Path) -> Path:
    """Held-out reward and KL, mean over agents and seeds, against each kind of cost.

    The band is the 95% interval over seeds; thin lines are the single agents of a team.
    """
    with figure(2, len(COST_LABELS), path, sharex="col", sharey="row") as axes:
        for index, arm, rows in _arms(with_derived_agents(cell)):
            for row, measure in enumerate(("task_reward", "kl")):
                for column, cost in enumerate(COST_LABELS):
                    _draw_members(axes[row][column], rows, cost, measure, index)
                    _draw_mean(axes[row][column], rows, cost, measure, index, arm)
        for column, label in enumerate(COST_LABELS.values()):
            axes[1][column].set_xlabel(label)
        axes[0][0].set_ylabel(f"{REWARD}, held out")
        axes[1][0].set_ylabel(KL)
        axes[0][0].set_title("mean of a team's agents, each alone")
        axes[0][1].set_title("band: 95% interval over seeds")
        axes[0][0].legend()
    return path


def draw_frontier(table: pd.DataFrame, path: Path) -> Path:
    """Reward against KL: every evaluation of every agent, and the frontier of each arm."""
    with figure(1, 1, path) as axis:
        for index, arm, rows in _arms(table.dropna(subset=["task_reward", "kl"])):
            style = line_style(index)
            axis.scatter(
                rows["kl"], rows["task_reward"], s=8, alpha=0.35, color=style["color"], linewidth=0
            )
            points = zip(rows["task_reward"].tolist(), rows["kl"].tolist(), strict=True)
            front = pareto_front(points)
            axis.plot(
                [kl for _, kl in front],
                [reward for reward, _ in front],
                drawstyle="steps-post",
                **style,
                label=arm,
            )
        axis.set_xlabel(KL)
        axis.set_ylabel(f"{REWARD}, held out")
        axis.set_title("every evaluation, and each arm's frontier")
        axis.legend()
    return path


def draw_robustness(survivors: pd.DataFrame, path: Path) -> Path:
    """Share of runs that came through without collapse, by learning rate."""
    with figure(1, 1, path) as axis:
        for index, arm, rows in _arms(survivors):
            share = rows.groupby("learning_rate")["survived_share"].mean()
            axis.plot(share.index, share, marker="o", **line_style(index), label=arm)
        axis.set_xscale("log")
        axis.set_ylim(-0.05, 1.05)
        axis.set_xlabel("learning rate")
        axis.set_ylabel("share of runs without collapse")
        axis.legend()
    return path


def _arms(table: pd.DataFrame) -> Iterator[tuple[int, str, pd.DataFrame]]:
    for index, arm in enumerate(table["arm"].unique()):
        yield index, arm, table[table["arm"] == arm]


def _draw_members(axis: Axes, rows: pd.DataFrame, cost: str, measure: str, index: int) -> None:
    members = [name for name in rows["agent"].unique() if name not in ("mean", "worst")]
    for member in members if len(members) > 1 else []:
        of_seeds = rows[rows["agent"] == member].groupby("step").mean(numeric_only=True)
        places = of_seeds.index if cost == "step" else of_seeds[cost]
        thin = {**line_style(index), "linewidth": 0.7, "alpha": 0.6}
        axis.plot(places, of_seeds[measure], **thin)


def _draw_mean(
    axis: Axes, rows: pd.DataFrame, cost: str, measure: str, index: int, arm: str
) -> None:
    places, means, lower, upper = [], [], [], []
    for step, at_step in rows[rows["agent"] == "mean"].groupby("step"):
        result = estimate(at_step[measure])
        places.append(step if cost == "step" else at_step[cost].mean())
        means.append(result.mean)
        lower.append(result.mean - result.half_width)
        upper.append(result.mean + result.half_width)
    style: dict[str, Any] = line_style(index)
    axis.plot(places, means, marker="o", markersize=3, **style, label=arm)
    axis.fill_between(places, lower, upper, color=style["color"], alpha=0.12, linewidth=0)
