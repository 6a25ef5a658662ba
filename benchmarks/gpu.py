"""One GPU, one run of ten minutes: tests, then iterations against what the device can do.

    python -m benchmarks.gpu [--seconds 560] [--texts DIRECTORY] [--only CASE ...]
                             [--output PATH] [--scratch DIRECTORY] [--tiny]

First the tests marked `gpu`; then the shapes of SmolLM2-135M, GPT2-large, and Llama-2-7b with LoRA
on bfloat16 and on NF4; GRPO beside TRL's, where TRL is installed. Weights are random, and made on
the spot. Results are written after every case, and what does not fit into the seconds is skipped.
`--tiny` runs tiny shapes, on a CPU if need be. docs/how-to/benchmark-a-gpu.md says how to run it on
a machine without network.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.cases import Case
from benchmarks.files import read_texts
from benchmarks.goals import Goal, MachineClass, gpu_class, on_gpus
from benchmarks.gpu_tests import Outcome, run_gpu_tests
from benchmarks.limits import decode_limit, decode_rate, decode_share, update_utilisation
from benchmarks.machine import describe_run
from benchmarks.measurement import Measurement, check_same_work
from benchmarks.running import Bench, Budget, Results
from benchmarks.saving import page, save
from benchmarks.suite import Number, summarise
from benchmarks.table import (
    iteration_table,
    number_table,
    own_floor_table,
    phase_table,
    shape_name,
    table,
)
from cory.io.files import replace_text

SECONDS = 560
"""Of a run, so that it ends within ten minutes, the start of Python included."""
TESTS = "tests"
SMOLLM2 = {
    "shape": "smollm2",
    "prompt_tokens": (64, 128),
    "num_tokens": 64,
    "bf16": True,
    "micro_batch": 64,
}
GPT2 = {"shape": "gpt2-large", "bf16": True, "micro_batch": 64}
LLAMA = {
    "shape": "llama-2-7b",
    "batch_size": 32,
    "prompt_tokens": (64, 128),
    "num_tokens": 256,
    "micro_batch": 4,
    "adapters": True,
    "dtype": "bfloat16",
    "bf16": True,
    "steps": 1,
}
GRPO = {"algorithm": "grpo", "num_generations": 8, "num_epochs": 1}

CASES = (
    Case("cory-smollm2", num_agents=2, **SMOLLM2),
    Case("grpo-smollm2", **GRPO, **SMOLLM2),
    Case("trl-grpo-smollm2", side="trl", **GRPO, **SMOLLM2),
    Case("cory-gpt2-large", num_agents=2, **GPT2, steps=3),
    Case("grpo-gpt2-large", **GRPO, **GPT2),
    Case("trl-grpo-gpt2-large", side="trl", **GRPO, **GPT2),
    Case("cory-llama-lora", num_agents=2, **LLAMA),
    Case("cory-llama-nf4", num_agents=2, **LLAMA, load_in_4bit=True),
    Case("grpo-llama-lora", **GRPO, **LLAMA),
    Case("trl-grpo-llama-lora", side="trl", **GRPO, **LLAMA),
)
"""In the order in which they are worth most, should time run out."""
PAIRS = (
    ("grpo-smollm2", "trl-grpo-smollm2"),
    ("grpo-gpt2-large", "trl-grpo-gpt2-large"),
    ("grpo-llama-lora", "trl-grpo-llama-lora"),
)
TINY_SHAPES = {"smollm2": "tiny-llama", "gpt2-large": "tiny", "llama-2-7b": "tiny-llama"}
PAPER_STEPS = 100
"""Iterations of the paper's run on IMDB: GPT2-large, two agents, 256 answers of 4 to 15 tokens,
four epochs. `cory-gpt2-large` has answers of 16."""


def paper_minutes(case: Measurement) -> float:
    """Minutes of the paper's run on IMDB, without its start and its evaluations."""
    return PAPER_STEPS * case.wall_seconds / 60


def elapsed_speedup(ours: Measurement, theirs: Measurement) -> float:
    """How many times faster ours is, on work that is checked to be the same."""
    check_same_work(ours, theirs)
    return theirs.wall_seconds / ours.wall_seconds


def _shares(name: str) -> tuple[Number, Number]:
    """How near decoding and learning come to what the device can do."""
    decoding = f"{name}: decoding, share of memory's limit"
    update = f"{name}: update, share of the rate of products"
    return (
        Number(decoding, (name,), decode_share, on_gpus(0.6), True, "{:.1%}"),
        Number(update, (name,), update_utilisation, on_gpus(0.45), True, "{:.1%}"),
    )


NUMBERS = (
    *(number for case in CASES if case.side == "cory" for number in _shares(case.name)),
    Number(
        "the paper's run on IMDB: 100 iterations of cory-gpt2-large",
        ("cory-gpt2-large",),
        paper_minutes,
        {"H200": Goal(5.0)},
        form="{:.1f} min",
    ),
    *(
        Number(f"{ours}: times faster than TRL", (ours, theirs), elapsed_speedup, {}, True)
        for ours, theirs in PAIRS
    ),
)


def main(arguments: list[str] | None = None) -> None:
    """Test, measure, print, write.

    Raises:
        SystemExit: there is no GPU, or its tests failed; cases are measured all the same.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    budget = Budget(options.seconds)
    device = find_device(options.tiny)
    chosen = options.only or [TESTS, *(case.name for case in CASES)]
    cases = [adapted(case, device, options.tiny) for case in CASES if case.name in chosen]
    tests = run_gpu_tests(device, budget) if TESTS in chosen else Outcome("not asked for")
    print(f"{TESTS}: {tests.summary}", file=sys.stderr, flush=True)
    results = Results()
    text = publish(results, tests, arguments, options.output)
    with tempfile.TemporaryDirectory(dir=options.scratch) as directory:
        bench = Bench(Path(directory), read_texts(options.texts), budget=budget)
        for line in bench.run(cases, refuse, results):
            print(line, file=sys.stderr, flush=True)
            text = publish(results, tests, arguments, options.output)
    print(text)
    if tests.failed:
        raise SystemExit(f"tests marked gpu: {tests.summary}\n{tests.output}")


def publish(results: Results, tests: Outcome, arguments: list[str], output: Path | None) -> str:
    """What has been measured so far as Markdown, and on disk if that is wanted."""
    run = describe_run("benchmarks.gpu", arguments)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {"device": name or "a CPU in its place", **run, "tests marked gpu": tests.summary}
    text = page("Speed on one GPU", facts, results, render(results, gpu_class(name)))
    if output is not None:
        save(output, text, facts, results)
        if tests.output:
            replace_text(output.with_name(f"{output.name}-tests.txt"), tests.output)
    return text


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [TESTS, *(case.name for case in CASES)]
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of the whole run (default: {SECONDS})"
    )
    parser.add_argument("--texts", type=Path, help="directory with train.parquet (column text)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--output", type=Path, help="path of the results, without suffix")
    parser.add_argument("--scratch", type=Path, help="directory with 20 GB for models")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: does it run at all?")
    return parser.parse_args(arguments)


def find_device(is_tiny: bool) -> str:
    """The GPU; for tiny shapes the CPU will do.

    Raises:
        SystemExit: there is no GPU.
    """
    if torch.cuda.is_available():
        return "cuda"
    if is_tiny:
        return "cpu"
    raise SystemExit("no CUDA device here: run this where there is one, or with --tiny")


def adapted(case: Case, device: str, is_tiny: bool) -> Case:
    """The case on this device."""
    if not is_tiny:
        return case.replace(device=device)
    shape = TINY_SHAPES[case.shape]
    return case.replace(
        device=device,
        shape=shape,
        batch_size=8,
        micro_batch=4,
        num_tokens=4,
        prompt_tokens=(2, 8),
        steps=1,
    )


def refuse(case: Case) -> str | None:
    """Why a case cannot run."""
    if case.side == "trl" and importlib.util.find_spec("trl") is None:
        return "TRL is not installed"
    if case.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
        return "bitsandbytes is not installed"
    return None


def render(results: Results, machine: MachineClass) -> str:
    """The results as Markdown."""
    measured = list(results.measured.values())
    parts = [
        "## Numbers",
        number_table(summarise(results.measured, results.reasons, NUMBERS), machine),
        "## Decoding and learning",
        device_table(measured),
        "## Iterations",
        iteration_table(measured),
        "## Phases over the floors of their own shapes",
        own_floor_table(measured),
        "## Where the seconds go",
        phase_table(measured),
    ]
    if results.reasons:
        parts += ["## Not measured", *(f"- {name}: {why}" for name, why in results.reasons.items())]
    return "\n\n".join(parts)


def device_table(measured: list[Measurement]) -> str:
    """Decoding against memory bandwidth, learning against the rate of products."""
    return table(
        ["case", "shape", "decoded tokens/s", "memory's limit", "share", "update MFU", "peak GB"],
        [
            [
                case.case.name,
                shape_name(case),
                f"{decode_rate(case):,.0f}",
                f"{decode_limit(case):,.0f}",
                f"{decode_share(case):.1%}",
                f"{update_utilisation(case):.1%}",
                f"{case.peak_bytes / 1e9:.2f}",
            ]
            for case in measured
        ],
    )


if __name__ == "__main__":
    main()
