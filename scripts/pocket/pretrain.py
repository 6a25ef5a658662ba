"""Make the embedded models and texts of a pocket task anew.

    python -m scripts.pocket.pretrain arithmetic
    python -m scripts.pocket.pretrain reviews

Each takes about ten minutes on one core and writes to `src/cory/assets` unless told otherwise.
`arithmetic --slip_rate 0.6 --output_dir DIR` makes a model that is seldom right, for experiments
with sparse rewards.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from scripts.pocket.pretrain_arithmetic import SLIP_RATE, pretrain_arithmetic
from scripts.pocket.pretrain_reviews import pretrain_reviews

ASSETS = Path(__file__).resolve().parents[2] / "src" / "cory" / "assets"


def main() -> None:
    """Parse the command line and pretrain one task's models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=ASSETS)
    parser.add_argument("--seed", type=int, default=0)
    tasks = parser.add_subparsers(dest="task", required=True)
    arithmetic = tasks.add_parser("arithmetic")
    arithmetic.add_argument("--slip_rate", type=float, default=SLIP_RATE)
    tasks.add_parser("reviews")
    args = parser.parse_args()

    torch.set_num_threads(1)
    start = time.perf_counter()
    if args.task == "arithmetic":
        pretrain_arithmetic(args.output_dir, slip_rate=args.slip_rate, seed=args.seed)
    else:
        pretrain_reviews(args.output_dir, seed=args.seed)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
