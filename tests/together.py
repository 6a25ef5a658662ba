"""A program for several processes: trains what it is told, as tests in one process train it.

    torchrun --nproc-per-node 2 -m tests.together PLAN.json

The plan is a list of trainings: settings, and what goes wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests import conftest  # noqa: F401  checks annotations in these processes, too

import torch.distributed as dist  # isort: skip

from tests.tiny_runs import queries, share_of_letters, trainer  # isort: skip

TROUBLE_AT = 2
"""Calls of the reward function before something goes wrong."""


def troublesome(kind: str, rank: int) -> Any:
    """A reward function that fails in one process, or whose process is stopped, ends or sticks."""
    calls = 0

    def share(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        nonlocal calls
        calls += 1
        if calls == TROUBLE_AT + 1 and dist.get_rank() == rank:
            Path(os.environ["TROUBLE"]).touch()
            if kind == "raises":
                raise ConnectionError("the judge is away")
            if kind == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "is told to stop":
                os.kill(os.getpid(), signal.SIGTERM)
            if kind == "sticks":
                time.sleep(600)
        return share_of_letters(prompts, completions)

    return share


def declines(
    prompts: list[str],
    completions: list[str],
    topic: list[int],
    log_metric: Any,
    log_extra: Any,
    **columns: Any,
) -> list[float | None]:
    """Pays the answers to some queries only, and logs something of every one."""
    for length in topic:
        log_metric("topic", length)
    log_extra("texts", completions)
    paid = share_of_letters(prompts, completions)
    return [None if length % 3 == 0 else reward for length, reward in zip(topic, paid, strict=True)]


def train(
    model: str,
    output_dir: str,
    trouble: str | None = None,
    start_from: str | None = None,
    **options: Any,
) -> None:
    """One training.

    Args:
        model: directory.
        output_dir: of the run.
        trouble: what the reward function of process 1 does; "declines": what that of all does.
        start_from: a run, of which a copy is resumed.
        options: settings.
    """
    # The others look at the copy only when they have met the first process.
    if start_from is not None and os.environ.get("RANK", "0") == "0":
        shutil.copytree(start_from, output_dir)
    rewards = {None: share_of_letters, "declines": declines}
    reward = rewards.get(trouble) or troublesome(str(trouble), rank=1)
    options["resume"] = start_from is not None
    trainer(Path(model), Path(output_dir), reward, eval_dataset=queries(5), **options).train()


def launch(plan: list[dict[str, Any]], directory: Path) -> subprocess.CompletedProcess[str]:
    """Start two processes, wait for their end, and say what came of it."""
    path = directory / "plan.json"
    path.write_text(json.dumps(plan))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "tests.together", str(path)]
    return subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        env={**os.environ, "TROUBLE": str(directory / "trouble")},
        timeout=1200,
        check=False,
    )


if __name__ == "__main__":
    for training in json.loads(Path(sys.argv[1]).read_text()):
        train(**training)
