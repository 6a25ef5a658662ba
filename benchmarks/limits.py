"""How close a device comes to what it can do: decoding to its memory, learning to its products."""

from __future__ import annotations

from benchmarks.measurement import Measurement
from benchmarks.products import cache_bytes, weight_bytes


def decode_rate(measured: Measurement) -> float:
    """Answer tokens per second of generation."""
    return measured.answer_tokens / measured.phase_seconds("generate")


def decode_limit(measured: Measurement) -> float:
    """Answer tokens per second if decoding did nothing but read memory, as fast as it can be read.

    A step reads every weight once, in the number format that is computed in (4 bits where they are
    quantised), and the keys and values of all sequences; a sequence is half answered on average.
    """
    case = measured.case
    weights = weight_bytes(case, measured.body_weights, measured.head_weights)
    cached = cache_bytes(case, measured.total_tokens)
    return case.batch_size * measured.memory_rate / (weights + cached)


def decode_share(measured: Measurement) -> float:
    """Share of that limit which decoding reaches, the reading of prompts included."""
    return decode_rate(measured) / decode_limit(measured)


def update_utilisation(measured: Measurement) -> float:
    """Share of the measured rate of matrix products that learning reaches (its MFU)."""
    return measured.update_flop / measured.phase_seconds("update") / measured.matrix_rate
