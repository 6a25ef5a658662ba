"""Two processes whose run meets a full disk: both end with the status of a fault."""

from __future__ import annotations

import os
import re
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


@pytest.mark.parametrize(
    ("limit", "file"),
    [
        (2_000, "(config.yaml|metrics.jsonl)"),
        (2_500, "(samples/step-000001.parquet|metrics.jsonl)"),
        (60_000, "checkpoints/step-1"),
    ],
)
def test_a_peer_of_one_that_met_a_full_disk_ends_as_that_one(
    tmp_path: Path, limit: int, file: str
) -> None:
    """Prevents a peer that waits, ends with a traceback, or says that the command was wrong."""
    (status, told), (peer, heard) = train_together(tmp_path / "run", limit)
    assert (status, peer) == (3, 3), told + heard
    assert re.search(rf"cory: {tmp_path}/run/{file} could not be written: ", told), told
    assert f"cory: process 0 of 2 failed, so all stop: OutputError: {tmp_path / 'run'}" in heard
    assert "Traceback" not in told + heard
