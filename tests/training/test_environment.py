"""A number must be traced to the code that made it, and to no other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch

from cory import __version__
from cory.training.environment import commit, environment


def git(directory: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", str(directory), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_it_names_what_computes() -> None:
    """Prevents a record from which a result cannot be reproduced."""
    found = environment()
    assert (found["cory"], found["torch"]) == (__version__, torch.__version__)
    assert found["processor"]
    assert found["threads"] == torch.get_num_threads()


def test_only_the_checkouts_own_files_have_its_commit(tmp_path: Path) -> None:
    """Prevents the commit of a user's project, in whose virtual environment cory is installed."""
    package, installed = tmp_path / "package", tmp_path / "environment"
    for directory in (package, installed):
        directory.mkdir()
        (directory / "__init__.py").touch()
    assert commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-qm", "One")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert commit(package) == revision
    assert commit(installed) is None
    (package / "__init__.py").write_text("x = 1\n")
    commit.cache_clear()
    assert commit(package) == f"{revision}+changes"
