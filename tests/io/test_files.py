"""Files in the place of others: pipes, devices and links that strangers, or a typo, put there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cory.io.files import is_file, refuse_unwritable_file, replace_text
from cory.io.objects import complete_lines, read_object
from cory.io.yaml import read_yaml
from cory.report.samples import read_samples
from cory.team.metrics import read_metrics

READERS: list[Callable[[Path], object]] = [
    read_yaml,
    read_object,
    read_metrics,
    lambda path: list(complete_lines(path)),
    lambda path: list(read_samples(path, 1)),
]


@pytest.mark.parametrize("read", READERS)
def test_nothing_waits_for_a_pipe(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """Prevents a report of a stranger's run that never ends."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe.* is a pipe or a device: it must be a file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_only_files_are_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Prevents `--output /dev/null` from making a file of the device."""
    place, link = tmp_path / "place", tmp_path / "link"
    make(place)
    link.symlink_to(place)
    before = place.lstat().st_mode
    for path in (place, link):
        for write in (lambda path: replace_text(path, "x"), refuse_unwritable_file):
            with pytest.raises(ValueError, match="it must be a file"):
                write(path)
    assert place.lstat().st_mode == before
    assert sorted(tmp_path.iterdir()) == [link, place]


def test_a_link_to_a_file_is_replaced(tmp_path: Path) -> None:
    """Prevents a file from being changed through a link."""
    (tmp_path / "victim").write_text("precious")
    for name in ("victim", "nothing", "loop"):
        link = tmp_path / "loop"
        link.symlink_to(name)
        replace_text(link, "x")
        assert (link.read_text(), link.is_symlink()) == ("x", False)
        link.unlink()
    assert (tmp_path / "victim").read_text() == "precious"
    assert not is_file(tmp_path / "nothing")


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    """Prevents an evaluation whose result cannot be written when it is known."""
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file is no directory that can be"):
        refuse_unwritable_file(tmp_path / "file" / "x.json")
    refuse_unwritable_file(tmp_path / "new" / "x.json")
