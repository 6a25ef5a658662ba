"""The curves of one run, and runs against each other, as PNG files.

Colours are those of Okabe and Ito, which the colour-blind tell apart; line styles repeat what
colours say. matplotlib is imported when the first plot is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cory.io.terminal import printable
from cory.team.metrics import read_metrics
from cory.team.roles import exchanges_at, role_name
from cory.training.records import load_config

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cory.config import CORYConfig

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
REWARD = "task reward per answer"
KL = "KL to the initial model (nats per answer)"
ITERATIONS = "iteration"
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 130,
    # Names are names, not formulas.
    "text.parse_math": False,
}
Records = Sequence[Mapping[str, Any]]


def plot_run(run_dir: str | Path) -> list[Path]:
    """Draw a run's training curves and, where there are evaluations, its held-out curves.

    Args:
        run_dir: run directory; files go to its folder `plots`.

    Returns:
        the PNG files.

    Raises:
        ValueError: the directory holds no run, or one without a finished iteration.
    """
    directory = Path(run_dir)
    args, records = load_config(directory), _records(directory)
    plots = directory / "plots"
    plots.mkdir(exist_ok=True)
    written = [_plot_training(args, records, plots / "training.png")]
    if any("eval/agent_0/task_reward" in record for record in records):
        runs = {directory.name: (args, records)}
        written.append(_plot_held_out(runs, plots / "held_out.png"))
    return written


def plot_runs(run_dirs: Mapping[str, str | Path], out: str | Path) -> Path:
    """Draw the held-out reward and KL of several runs, every agent alone on the plain query.

    The same curves stand over iterations and over sampled answers, as a team of two samples twice
    as many per iteration as a single agent, and as reward against KL, the two aims of training.

    Args:
        run_dirs: run directories by the name to show.
        out: the PNG file.

    Raises:
        ValueError: a directory holds no run.
    """
    runs = {
        name: (load_config(Path(directory)), _records(Path(directory)))
        for name, directory in run_dirs.items()
    }
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    return _plot_held_out(runs, Path(out))


def _records(directory: Path) -> Records:
    records = read_metrics(directory / "metrics.jsonl")
    if not records:
        raise ValueError(f"{directory} has no metrics yet: nothing was logged to metrics.jsonl")
    return records


def _plot_training(args: CORYConfig, records: Records, path: Path) -> Path:
    """Reward and KL while training: one column by agent, one by role."""
    agents = [f"agent_{index}" for index in range(args.num_agents)]
    roles = [role_name(place) for place in range(args.num_agents)]
    with new_axes(2, 2, path, sharex=True, sharey="row") as axes:
        for column, (owners, title) in enumerate(((agents, "by agent"), (roles, "by role"))):
            for row, (key, label) in enumerate((("task_reward", REWARD), ("kl", KL))):
                axis = axes[row][column]
                for index, owner in enumerate(owners):
                    steps, values = _series(records, f"{owner}/{key}")
                    axis.plot(steps, values, **line_style(index), label=owner)
                _mark_exchanges(axis, args, last_step=records[-1]["step"])
                axis.set_ylabel(label if column == 0 else "")
            axes[0][column].set_title(f"training samples, {title}")
            axes[1][column].set_xlabel(ITERATIONS)
            axes[0][column].legend()
    return path


def _mark_exchanges(axis: Axes, args: CORYConfig, last_step: int) -> None:
    """A thin line where roles are exchanged."""
    period = args.role_exchange_period
    exchanges = [step for step in range(last_step) if exchanges_at(step, args.num_agents, period)]
    for step in exchanges:
        axis.axvline(step + 0.5, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    if exchanges:
        axis.plot([], [], color="0.6", linewidth=0.8, linestyle=":", label="roles exchanged")


def _plot_held_out(runs: Mapping[str, tuple[CORYConfig, Records]], path: Path) -> Path:
    """Held-out reward over iterations and answers, and against KL."""
    with new_axes(1, 3, path, sharey=True) as axes:
        index = 0
        for name, (args, records) in runs.items():
            shown = printable(name)
            samples = {0: 0, **dict(zip(*_series(records, "total_samples"), strict=True))}
            for agent in range(args.num_agents):
                label = f"{shown}, agent_{agent}" if args.num_agents > 1 else shown
                _draw_agent(axes, records, agent, samples, index, label)
                index += 1
        axes[0].set_ylabel(f"{REWARD}, held out")
        for axis, label in zip(axes, (ITERATIONS, "answers sampled in training", KL), strict=True):
            axis.set_xlabel(label)
        axes[0].set_title("each agent alone, band: 95%")
        axes[1].set_title("the same, by samples")
        axes[2].set_title("reward against KL")
        axes[2].legend()
    return path


def _draw_agent(
    axes: Sequence[Axes],
    records: Records,
    agent: int,
    samples: Mapping[int, float],
    index: int,
    label: str,
) -> None:
    prefix = f"eval/agent_{agent}"
    steps, rewards = _series(records, f"{prefix}/task_reward")
    _, intervals = _series(records, f"{prefix}/task_reward_ci95")
    _, kl = _series(records, f"{prefix}/kl")
    lower = [reward - half for reward, half in zip(rewards, intervals, strict=True)]
    upper = [reward + half for reward, half in zip(rewards, intervals, strict=True)]
    line = line_style(index)
    positions: list[list[float]] = [[float(step) for step in steps]]
    if all(step in samples for step in steps):
        positions.append([samples[step] for step in steps])
    for axis, places in zip(axes, positions, strict=False):
        axis.plot(places, rewards, marker="o", markersize=3, **line, label=label)
        axis.fill_between(places, lower, upper, color=line["color"], alpha=0.15, linewidth=0)
    axes[2].plot(kl, rewards, marker="o", markersize=3, **line, label=label)
    # The end of a path tells it from its beginning.
    axes[2].plot(kl[-1:], rewards[-1:], marker="o", markersize=8, color=line["color"])


def _series(records: Records, key: str) -> tuple[list[int], list[float]]:
    """Steps at which `key` was measured, and its values."""
    found = [(record["step"], record[key]) for record in records if record.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]


def line_style(index: int) -> dict[str, Any]:
    """Colour and dashes of the curve with this number."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[index % len(LINES)]}


@contextmanager
def new_axes(rows: int, columns: int, path: Path, **options: Any) -> Iterator[Any]:
    """Axes to draw on; saved to `path` in the end, without touching the user's own figures."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * columns, 3.3 * rows + 0.4))
        FigureCanvasAgg(figure)
        yield figure.subplots(rows, columns, **options)
        figure.savefig(path)
