"""How close a device comes to what it can do: decoding to its memory, learning to its products."""

from __future__ import annotations

from benchmarks.cases import SHAPES, Case
from benchmarks.measurement import Measurement

BYTES = {"float32": 4.0, "bfloat16": 2.0}
NF4_BYTES = 0.5


def decode_rate(measured: Measurement) -> float:
    """Answer tokens per second of generation."""
    return measured.answer_tokens / measured.phase_seconds("generate")


def decode_limit(measured: Measurement) -> float:
    """Answer tokens per second if decoding did nothing but read memory, at the rate of a copy.

    A step reads every weight once, in the number format that is computed in (4 bits where they are
    quantised), and the keys and values of all sequences; a sequence is half answered on average.
    """
    case, shape = measured.case, SHAPES[measured.case.shape]
    number = activation_bytes(case)
    body = measured.body_weights * (NF4_BYTES if case.load_in_4bit else number)
    weights = body + measured.head_weights * number
    num_sequences = case.num_agents * case.batch_size
    context = measured.total_tokens / num_sequences - case.num_tokens / 2
    cached = case.batch_size * context * shape.layers * 2 * shape.width * number
    return case.batch_size * measured.copy_rate / (weights + cached)


def update_utilisation(measured: Measurement) -> float:
    """Share of the measured rate of matrix products that learning reaches (its MFU)."""
    return measured.update_flop / measured.phase_seconds("update") / measured.matrix_rate


def activation_bytes(case: Case) -> float:
    """Bytes of a number that matrix products read."""
    return BYTES["bfloat16" if case.bf16 else case.dtype]
