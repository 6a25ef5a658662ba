"""What all processes do where one of them has a reason."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from cory.distributed.world import SINGLE
from cory.io.files import LOCK, alone_in
from cory.io.signals import Interruption
from cory.training.launch import first_alone_in, make_accelerator, reason_to_stop
from tests.distributed.test_world import Heard
from tests.teams import make_args


@pytest.mark.parametrize(
    ("own", "others", "status"),
    [
        (None, None, None),
        (None, signal.SIGTERM, 143),
        (signal.SIGINT, None, 130),
        (signal.SIGINT, signal.SIGTERM, 130),
    ],
)
def test_a_signal_to_one_is_a_signal_to_all(
    own: signal.Signals | None, others: signal.Signals | None, status: int | None
) -> None:
    """Prevents a process that saves and ends while another one goes on."""
    interruption = Interruption("will stop")
    interruption.requested = own
    reason = reason_to_stop(interruption, Heard(0, 2, [others]))
    assert (None if reason is None else reason.code) == status


def test_the_first_process_locks_for_all(tmp_path: Path) -> None:
    """Prevents the second process of a run from being refused by its first."""
    with first_alone_in(tmp_path, "cory train", Heard(0, 2, [None])):
        with pytest.raises(ValueError, match="another `cory train` works"):
            alone_in(tmp_path, "cory train").__enter__()
        with first_alone_in(tmp_path, "cory train", Heard(1, 2, [None])):
            assert (tmp_path / LOCK).exists()
    with first_alone_in(tmp_path, "cory train", SINGLE):
        pass


@pytest.mark.filterwarnings("ignore:.*no supported trackers")
def test_a_tracker_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    """Prevents a run that nobody can watch, since accelerate leaves the tracker out."""
    args = make_args(report_to=["swanlab"], output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match=r"names 'swanlab', which is not installed: install it"):
        make_accelerator(args)
