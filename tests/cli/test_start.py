"""What a command loads: only what it uses, since imports are most of a short command's time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
from cory.cli import main
main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
"""
OWN = "cory numpy jaxtyping yaml rich filelock jsonargparse docstring_parser typeshed_client"
TORCH = "torch torchgen functorch sympy mpmath typing_extensions"
TRANSFORMERS = "transformers tokenizers safetensors regex scipy PIL jinja2 markupsafe packaging"
PEFT = "peft accelerate psutil"
DATASETS = "datasets pandas pyarrow dateutil six fsspec multiprocess dill xxhash tqdm colorama"
HUB = "huggingface_hub httpx2 httpcore2 h11 anyio sniffio idna certifi truststore"
FOUND_BY_OTHERS = "google charset_normalizer"
"""Namespaces and encodings that libraries look at where they are installed."""
ALLOWED = frozenset(
    " ".join((OWN, TORCH, TRANSFORMERS, PEFT, DATASETS, HUB, FOUND_BY_OTHERS)).split()
)
"""Packages that a training of a small model may load. What else is installed, it must not."""
HEAVY_PARTS = ("torch._inductor.compile_fx", "torch.utils.tensorboard", "transformers.trainer")
"""Parts of allowed packages that take long to import, and that a training never uses."""


def test_a_training_loads_what_it_uses(tmp_path: Path) -> None:
    """Prevents seconds of every short command that go into a library which does nothing there.

    bitsandbytes alone took a fifth of them: peft imports it wherever it is installed.
    """
    options = {"batch_size": 4, "num_eval_queries": 2, "max_steps": 1, "output_dir": tmp_path / "r"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-c", PROGRAM, "train", "--task", "pocket-reviews", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    # Parts of compiled packages stand at the top, without a package of their own.
    packages = {name for name in packages if not name.startswith(("_", "cython_"))}
    assert packages - ALLOWED == set()
    assert loaded & set(HEAVY_PARTS) == set()
