"""What every measuring process does: read its case, count, write what it measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import (
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from benchmarks.cases import Case, read_case
from benchmarks.floor import (
    MATRIX_SIZE,
    SMALL_MATRIX_SIZE,
    matrix_rate,
    memory_rate,
    product_seconds,
)
from benchmarks.measurement import Measurement, write_measurement
from benchmarks.meter import Meter, peak_bytes
from benchmarks.products import TimedPass, passes, time_pass, weight_bytes

GPU_MATRIX_SIZE = 8192
READ_BYTES, MAX_READ_BYTES = 2**20, 2**30
REWARD_BATCH = 64
MAX_REWARD_TOKENS = 512


@dataclass
class Work:
    """The files and clocks of one case, and the counts of its laps."""

    case: Case
    files: Path
    meter: Meter
    rates: list[float] = field(default_factory=list)
    answer_tokens: list[int] = field(default_factory=list)
    total_tokens: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    _tokens: tuple[int, int] = (0, 0)

    @property
    def prompts(self) -> list[str]:
        """The same ones in every iteration."""
        return json.loads((self.files / "prompts.json").read_text())[: self.case.num_prompts]

    @property
    def language_model(self) -> str:
        """Directory of the initial model."""
        return str(self.files / "language-model")

    def tokenizer(self, model: str = "language-model") -> PreTrainedTokenizerFast:
        """Read so that every version of transformers understands it."""
        return PreTrainedTokenizerFast(
            tokenizer_file=str(self.files / model / "tokenizer.json"),
            pad_token="<|pad|>",
            eos_token="<|endoftext|>",
        )

    def reward(self) -> Callable[..., list[float]]:
        """The reward of every trainer, its time counted."""
        return self.meter.timed(ClassifierReward(self), "reward")

    def saw(self, num_answer_tokens: int, num_prompt_tokens: int) -> None:
        """Count what was sampled."""
        answers, total = self._tokens
        self._tokens = (
            answers + num_answer_tokens,
            total + num_answer_tokens + num_prompt_tokens,
        )

    def lap(self) -> None:
        """End an iteration, and measure the rate of matrix products beside it."""
        self.meter.lap()
        self.answer_tokens.append(self._tokens[0])
        self.total_tokens.append(self._tokens[1])
        self.steps.append(self.meter.optimizer_steps)
        self._tokens, self.meter.optimizer_steps = (0, 0), 0
        self.rates.append(product_rate(self.case))
        self.meter.start()

    def measurement(self, *libraries: str) -> Measurement:
        """What was measured, without the first lap, which warmed up."""
        case = self.case
        facts = json.loads((self.files / "facts.json").read_text())
        # Before the products of other shapes, which take memory of their own.
        peak = peak_bytes(case.device)
        total_tokens = _only(self.total_tokens, "tokens")
        weights = weight_bytes(case, facts["body_weights"], facts["head_weights"])
        return Measurement(
            case=case,
            laps=self.meter.laps[1:],
            total_tokens=total_tokens,
            answer_tokens=_only(self.answer_tokens, "answer tokens"),
            optimizer_steps=_only(self.steps, "optimizer steps"),
            peak_bytes=peak,
            matrix_rate=max(self.rates),
            versions={
                "python": sys.version.split()[0],
                **{
                    name: import_module(name).__version__
                    for name in ("torch", "transformers", *libraries)
                },
            },
            memory_rate=working_memory_rate(case, weights),
            passes=self._timed_passes(total_tokens, weights),
            **facts,
        )

    def _timed_passes(self, total_tokens: int, weights: float) -> list[TimedPass]:
        case = self.case
        body, head = json.loads((self.files / "matrices.json").read_text())
        seconds = cache(partial(product_seconds, device=case.device, dtype=computed_in(case)))
        return [time_pass(one, body, head, weights, seconds) for one in passes(case, total_tokens)]


def computed_in(case: Case) -> torch.dtype:
    """The number format of the case's products."""
    return torch.bfloat16 if case.bf16 else getattr(torch, case.dtype)


def working_memory_rate(case: Case, weights: float) -> float:
    """Bytes per second at which as many bytes as the weights have are read; on a GPU, many."""
    if case.device != "cpu":
        return memory_rate(case.device, MAX_READ_BYTES)
    return memory_rate(case.device, min(max(int(weights), READ_BYTES), MAX_READ_BYTES))


def product_rate(case: Case) -> float:
    """Floating-point operations per second in the number format that the case computes in."""
    dtype = computed_in(case)
    if case.device != "cpu":
        return matrix_rate(case.device, dtype, GPU_MATRIX_SIZE)
    return matrix_rate(
        case.device, dtype, SMALL_MATRIX_SIZE if dtype == torch.bfloat16 else MATRIX_SIZE
    )


def _only(counts: list[int], name: str) -> int:
    """The count of every lap.

    Raises:
        ValueError: they differ.
    """
    if len(set(counts)) != 1:
        raise ValueError(f"iterations had different numbers of {name}: {counts}")
    return counts[0]


class ClassifierReward:
    """The positive logit of the classifier on prompt + completion."""

    __name__ = "classifier"

    def __init__(self, work: Work) -> None:
        path = work.files / "classifier"
        self.tokenizer = work.tokenizer("classifier")
        self.model = DistilBertForSequenceClassification.from_pretrained(path).eval()
        self.model.to(work.case.device)

    @torch.no_grad()
    def __call__(self, prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        texts = [
            prompt + completion for prompt, completion in zip(prompts, completions, strict=True)
        ]
        rewards = [0.0] * len(texts)
        # Texts of similar length share a batch: less padding.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), REWARD_BATCH):
            rows = order[start : start + REWARD_BATCH]
            inputs = self.tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=MAX_REWARD_TOKENS,
                return_tensors="pt",
            ).to(self.model.device)
            logits = self.model(inputs["input_ids"], inputs["attention_mask"]).logits[:, 1]
            for row, reward in zip(rows, logits.tolist(), strict=True):
                rewards[row] = reward
        return rewards


def run_worker(measure: Callable[[Work], Measurement], arguments: Sequence[str]) -> None:
    """Measure the case that the arguments name: `CASE.json FILES RESULT.json`."""
    case_path, files, result = map(Path, arguments)
    case = read_case(case_path)
    torch.set_num_threads(case.threads)
    with closing(Meter(case.device)) as meter:
        measurement = measure(Work(case, files, meter))
    measurement.check()
    write_measurement(measurement, result)
