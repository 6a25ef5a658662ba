"""One GPU, one run: iterations at the paper's sizes, against what the device can do.

    python -m benchmarks.gpu [--texts DIRECTORY] [--only CASE ...] [--output PATH] [--tiny]

Weights are random and made on the spot. GPT2-large: batch 256, prompts of 2 to 8 tokens, 16 new
ones. Llama-2-7b: 32 prompts of 64 to 128 tokens, 256 new ones, LoRA of rank 16 on bfloat16 and on
NF4. GRPO beside TRL's, where TRL is installed. `--tiny` runs tiny shapes, on a CPU if need be.
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
from benchmarks.limits import decode_limit, decode_rate, update_utilisation
from benchmarks.machine import describe_run
from benchmarks.measurement import Measurement, check_same_work
from benchmarks.running import Bench, Results
from benchmarks.saving import page, save
from benchmarks.table import iteration_table, phase_table, shape_name, table

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
}
GRPO = {"algorithm": "grpo", "num_generations": 8, "num_epochs": 1}

CASES = (
    Case("cory-gpt2-large", num_agents=2, **GPT2),
    Case("grpo-gpt2-large", **GRPO, **GPT2),
    Case("trl-grpo-gpt2-large", side="trl", **GRPO, **GPT2),
    Case("cory-llama-lora", num_agents=2, **LLAMA, steps=1),
    Case("cory-llama-nf4", num_agents=2, **LLAMA, load_in_4bit=True, steps=1),
    Case("grpo-llama-lora", **GRPO, **LLAMA, steps=1),
    Case("trl-grpo-llama-lora", side="trl", **GRPO, **LLAMA, steps=1),
)
PAIRS = (
    ("grpo-gpt2-large", "trl-grpo-gpt2-large"),
    ("grpo-llama-lora", "trl-grpo-llama-lora"),
)
TINY_SHAPES = {"gpt2-large": "tiny", "llama-2-7b": "tiny-llama"}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    device = find_device(options.tiny)
    cases = [adapted(case, device, options.tiny) for case in CASES]
    if options.only:
        cases = [case for case in cases if case.name in options.only]
    results, text = Results(), ""
    with tempfile.TemporaryDirectory(dir=options.scratch) as directory:
        bench = Bench(Path(directory), read_texts(options.texts))
        for line in bench.run(cases, refuse, results):
            print(line, file=sys.stderr, flush=True)
            text = publish(results, arguments, options.output)
    print(text)


def publish(results: Results, arguments: list[str], output: Path | None) -> str:
    """What has been measured so far as Markdown, and on disk if that is wanted."""
    run = describe_run("benchmarks.gpu", arguments)
    if torch.cuda.is_available():
        run = {"device": torch.cuda.get_device_name(), **run}
    text = page("Speed on one GPU", run, results, render(results))
    if output is not None:
        save(output, text, run, results)
    return text


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.name for case in CASES]
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


def render(results: Results) -> str:
    """The results as Markdown."""
    measured = list(results.measured.values())
    parts = [
        "## Against the device",
        device_table(measured),
        "## Against TRL",
        pair_table(results),
        "## Iterations",
        iteration_table(measured),
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
                f"{decode_rate(case) / decode_limit(case):.1%}",
                f"{update_utilisation(case):.1%}",
                f"{case.peak_bytes / 1e9:.2f}",
            ]
            for case in measured
        ],
    )


def pair_table(results: Results) -> str:
    """How many times faster than TRL, on work that is checked to be the same."""
    rows = []
    for ours, theirs in PAIRS:
        if ours in results.measured and theirs in results.measured:
            mine, yours = results.measured[ours], results.measured[theirs]
            check_same_work(mine, yours)
            rows.append([ours, f"{yours.wall_seconds / mine.wall_seconds:.2f} ×"])
    return table(["case", "times faster than TRL"], rows)


if __name__ == "__main__":
    main()
