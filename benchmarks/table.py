"""Measurements as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.goals import MachineClass
from benchmarks.measurement import PHASES, Measurement
from benchmarks.suite import Line, Number


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def iteration_table(measurements: Sequence[Measurement]) -> str:
    """One line per case: what it did, and what it took."""
    header = ["case", "trainer", "shape", "agents × answers × tokens", "epochs", "CPU s", "wall s"]
    header += ["floor s", "× floor (large products)", "× floor (own shapes)", "tokens/s", "peak GB"]
    return table(
        header,
        [
            [
                measured.case.name,
                trainer_name(measured),
                shape_name(measured),
                f"{measured.case.num_agents} × {measured.case.batch_size} × "
                f"{measured.case.num_tokens}",
                str(measured.case.num_epochs),
                f"{measured.cpu_seconds:.2f}",
                f"{measured.wall_seconds:.2f}",
                f"{measured.floor_seconds:.2f}",
                f"{measured.times_floor:.2f}",
                f"{measured.times_own_floor:.2f}",
                f"{measured.tokens_per_second:,.0f}",
                f"{measured.peak_bytes / 1e9:.2f}",
            ]
            for measured in measurements
        ],
    )


def phase_table(measurements: Sequence[Measurement]) -> str:
    """One line per case: where its seconds went, and the rate behind its floor."""
    return table(
        ["case", *(f"{phase} s" for phase in PHASES), "products, GFLOP/s"],
        [
            [
                measured.case.name,
                *(f"{measured.phase_seconds(phase):.2f}" for phase in PHASES),
                f"{measured.matrix_rate / 1e9:,.0f}",
            ]
            for measured in measurements
        ],
    )


def own_floor_table(measurements: Sequence[Measurement]) -> str:
    """One line per case: its phases over the floors of their own shapes, and the rates there."""
    phases = ("generate", "score", "update")
    return table(
        ["case", *(f"{phase}: × floor" for phase in phases), "update, GFLOP/s", "memory, GB/s"],
        [
            [
                measured.case.name,
                *(_times_own_floor(measured, phase) for phase in phases),
                f"{_own_rate(measured) / 1e9:,.0f}",
                f"{measured.memory_rate / 1e9:.1f}",
            ]
            for measured in measurements
        ],
    )


def _times_own_floor(measured: Measurement, phase: str) -> str:
    """A phase over its floor; a dash where it has none."""
    floor = measured.own_floor_seconds(phase)
    return f"{measured.phase_seconds(phase) / floor:.2f}" if floor else "–"


def _own_rate(measured: Measurement) -> float:
    """Floating-point operations per second of the update's products at their own shapes."""
    update = [one for one in measured.passes if one.phase == "update"]
    return sum(one.flop for one in update) / sum(one.seconds for one in update)


def number_table(lines: Sequence[Line], machine: MachineClass) -> str:
    """One line per number: measured, or why not, and the goal of this class of machine.

    Goals of a floor are stated by, and so met or missed by, that of large products.
    """
    rows = []
    for line in lines:
        number, goals = line.number, _bounds(line.number, machine)
        if line.value is None:
            rows.append([number.name, line.reason or "", "", *goals, ""])
            continue
        own = "" if line.own is None else number.form.format(line.own)
        verdict = number.verdict(line.value, machine)
        rows.append([number.name, number.form.format(line.value), own, *goals, verdict])
    return table(["number", "measured", "by own shapes", "must", "aim", "verdict"], rows)


def _bounds(number: Number, machine: MachineClass) -> tuple[str, str]:
    """What a number must be, and what is aimed at."""
    goal, sign = number.goals.get(machine), "≥" if number.more_is_better else "≤"
    if goal is None:
        return "", ""
    bounds = (goal.must, goal.aim)
    must, aim = ("" if one is None else f"{sign} {number.form.format(one)}" for one in bounds)
    return must, aim


def trainer_name(measured: Measurement) -> str:
    """Whose trainer, and which version."""
    case = measured.case
    library = "trl" if case.side == "trl" else "cory"
    return f"{library} {measured.versions[library]} {case.algorithm}"


def shape_name(measured: Measurement) -> str:
    """The model, and how it is held and computed with."""
    case = measured.case
    traits = {
        "LoRA": case.adapters,
        "NF4": case.load_in_4bit,
        "bf16": case.bf16 or case.dtype == "bfloat16",
    }
    return " ".join([case.shape, *(name for name, has_it in traits.items() if has_it)])
