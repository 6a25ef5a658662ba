"""Make the embedded models and texts of a pocket task anew.

    python -m scripts.pocket.pretrain arithmetic
    python -m scripts.pocket.pretrain arithmetic-sparse
    python -m scripts.pocket.pretrain reviews
    python -m scripts.pocket.pretrain arithmetic-one-habit --output_dir runs/models
    python -m scripts.pocket.pretrain arithmetic-leaning --output_dir runs/models
    python -m scripts.pocket.pretrain arithmetic-seldom --output_dir runs/models
    python -m scripts.pocket.pretrain arithmetic-misled --output_dir runs/models
    python -m scripts.pocket.pretrain arithmetic-convinced --output_dir runs/models
    python -m scripts.pocket.pretrain arithmetic-rare --output_dir runs/models
    python -m scripts.pocket.pretrain arithmetic-rarest --output_dir runs/models

Each takes about ten minutes on one core and writes to `src/cory/assets` unless told otherwise. Only
the first three are embedded. The model of `arithmetic` slips at additions, or with an answer in
view at subtractions; `arithmetic-seldom` does so nearly always. `arithmetic-misled` has wrong facts
for habits, others with an answer in view than without, and `arithmetic-convinced` hardly ever
doubts them. `arithmetic-one-habit` slips in one way, in view of an answer or not, and so do the
rest: `arithmetic-sparse` is seldom right, for experiments with sparse rewards, `arithmetic-rare`
and `arithmetic-rarest` hardly ever. `arithmetic-leaning` takes steps over from the answer in view,
right or wrong.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from scripts.pocket.pretrain_arithmetic import RECIPES, pretrain_arithmetic
from scripts.pocket.pretrain_reviews import pretrain_reviews

ARITHMETIC = [name.removeprefix("pocket-").removesuffix("-lm") for name in RECIPES]
ASSETS = Path(__file__).resolve().parents[2] / "src" / "cory" / "assets"


def main() -> None:
    """Parse the command line and pretrain one task's models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=ASSETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("models", choices=["reviews", *ARITHMETIC])
    args = parser.parse_args()

    torch.set_num_threads(1)
    start = time.perf_counter()
    if args.models == "reviews":
        pretrain_reviews(args.output_dir, seed=args.seed)
    else:
        pretrain_arithmetic(args.output_dir, f"pocket-{args.models}-lm", seed=args.seed)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
