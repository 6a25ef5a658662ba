"""Two processes whose run meets a full disk: both end with the status of a fault."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

# Two processes on two busy cores take their time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = [
    *("--task", "pocket-reviews", "--use_cpu", "--max_steps", "3", "--save_steps", "1"),
    *("--batch_size", "4", "--max_completion_length", "4", "--num_eval_queries", "2"),
    *("--log_samples_steps", "1", "--ddp_timeout", "120"),
]


def train_together(run: Path, limit: int) -> list[tuple[int, str]]:
    """Exit status and messages of two processes; no file of the first may exceed `limit` bytes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "cory", "train", *SETTINGS, "--output_dir", str(run)]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            preexec_fn=None if rank else full,
        )
        for rank in (0, 1)
    ]
    messages = [process.communicate()[1] for process in processes]
    return [(process.returncode, told) for process, told in zip(processes, messages, strict=True)]


def test_a_peer_of_one_that_met_a_full_disk_ends_as_that_one(tmp_path: Path) -> None:
    """Prevents a peer that waits, ends with a traceback, or says that the command was wrong."""
    # The cache of data sets is written before the limit holds.
    words = [*SETTINGS, "--max_steps", "1", "--output_dir", str(tmp_path / "first")]
    subprocess.run([sys.executable, "-m", "cory", "train", *words], check=True, capture_output=True)
    (status, told), (peer, heard) = train_together(tmp_path / "run", limit=60_000)
    assert (status, peer) == (3, 3), told + heard
    place = tmp_path / "run" / "checkpoints" / "step-1"
    assert f"cory: {place} could not be written: " in told
    assert f"cory: process 0 of 2 failed, so all stop: OutputError: {place}" in heard
    assert "Traceback" not in told + heard
