"""Measurements as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.measurement import PHASES, Measurement
from benchmarks.suite import Number


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def iteration_table(measurements: Sequence[Measurement]) -> str:
    """One line per case: what it did, and what it took."""
    header = ["case", "trainer", "shape", "agents × answers × tokens", "epochs", "CPU s", "wall s"]
    header += ["floor s", "× floor", "tokens/s", "peak GB"]
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


def number_table(numbers: Sequence[tuple[Number, float | None]], reasons: Mapping[str, str]) -> str:
    """One line per goal: what was measured, or why it could not be; none on what was left out."""
    rows = []
    for number, value in numbers:
        bound = "≥" if number.more_is_better else "≤"
        goal = f"{bound} {number.form.format(number.goal)}"
        missing = [reasons[name] for name in number.needs if name in reasons]
        if value is not None:
            met = "yes" if number.met(value) else "no"
            rows.append([number.name, number.form.format(value), goal, met])
        elif missing:
            rows.append([number.name, f"not measured: {'; '.join(missing)}", goal, ""])
    return table(["number", "measured", "goal", "met"], rows)


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
