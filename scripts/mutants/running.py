"""Runs tests on copies of the working tree, in processes that have the slow imports done."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from scripts.mutants.catalogue import ROOT, Mutant

PRELOADED = ["torch", "transformers", "datasets", "peft", "accelerate", "pandas", "pyarrow.parquet"]
"""Imported once; the process of each mutant is forked from the one that holds them."""
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""As in tests/conftest.py, since libraries read it when they are imported. Bytecode would outlive
the change that it was compiled from: Python tells versions of a file apart by whole seconds."""
COPIED = ["src", "tests", "scripts", "examples", "docs", "benchmarks", "pyproject.toml"]
SECONDS_PER_TEST = 180
PASSED, FAILED = 0, 1
"""Exit status of pytest. Others say that the tests could not be run."""
FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) tests/(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What tests said of a copy."""

    status: int
    seconds: float
    output: str

    @property
    def first_failure(self) -> str:
        """The test that noticed."""
        found = FIRST_FAILURE.search(self.output)
        return found[1] if found else "a test"


class Testable(Protocol):
    """What tests can be run on."""

    def run(self, tests: Sequence[str], mutant: Mutant | None = None) -> Outcome:
        """Run tests on the source, changed or as it is."""
        ...


class Copies:
    """Copies of the working tree, one for each job; the checkout itself is never touched.

    Args:
        directory: where they go.
        count: how many.
    """

    def __init__(self, directory: Path, count: int) -> None:
        self.free: SimpleQueue[Path] = SimpleQueue()
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)
        for index in range(count):
            copy = directory / f"copy-{index}"
            for name in COPIED:
                _copy(ROOT / name, copy / "tree" / name)
            self.free.put(copy)

    def run(self, tests: Sequence[str], mutant: Mutant | None = None) -> Outcome:
        """Run tests on a copy, changed or as it is.

        Raises:
            ValueError: the change does not fit the source.
        """
        copy = self.free.get()
        try:
            with _changed(copy / "tree", mutant):
                return self._run(copy, tests)
        finally:
            self.free.put(copy)

    def _run(self, copy: Path, tests: Sequence[str]) -> Outcome:
        started = time.monotonic()
        log = copy / "output.txt"
        process = self.context.Process(target=_pytest, args=(copy, list(tests), log))
        process.start()
        process.join()
        output = log.read_text() if log.exists() else ""
        return Outcome(process.exitcode or 0, time.monotonic() - started, output)


@contextmanager
def copies(count: int) -> Iterator[Copies]:
    """Context in which there are copies to test on."""
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="cory-mutants-") as directory:
        yield Copies(Path(directory), count)


def outcomes(
    all_copies: Testable, mutants: Sequence[Mutant], jobs: int
) -> Iterator[tuple[Mutant, Outcome]]:
    """What the tests say of each mutant, in the order of the list."""
    with ThreadPoolExecutor(jobs) as executor:
        tested = executor.map(lambda one: all_copies.run(one.tests, one), mutants)
        yield from zip(mutants, tested, strict=True)


def unchanged(all_copies: Testable, mutants: Sequence[Mutant], jobs: int) -> list[Outcome]:
    """What the same tests say of the source as it is: a test that fails always notices nothing."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    # Neighbours share fixtures and imports, so each job gets a run of them.
    size = -(-len(tests) // jobs)
    parts = [tests[start : start + size] for start in range(0, len(tests), size)]
    with ThreadPoolExecutor(jobs) as executor:
        return list(executor.map(all_copies.run, parts))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


@contextmanager
def _changed(tree: Path, mutant: Mutant | None) -> Iterator[None]:
    if mutant is None:
        yield
        return
    path = tree / "src/cory" / mutant.file
    source = path.read_text()
    path.write_text(mutant.applied(source))
    try:
        yield
    finally:
        path.write_text(source)


def _pytest(copy: Path, tests: Sequence[str], log: Path) -> None:
    """Run tests in this process, which ends with the exit status of pytest."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    tree, scratch = copy / "tree", copy / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    tempfile.tempdir = str(scratch)
    sources = [str(tree / "src"), str(tree)]
    os.environ.update(TMPDIR=str(scratch), PYTHONPATH=os.pathsep.join(sources))
    os.chdir(tree)
    sys.path[:0] = sources
    for name in [name for name in sys.modules if name.split(".")[0] in ("scripts", "tests")]:
        del sys.modules[name]
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not gpu"]
    options += ["--tb", "short", "--timeout", str(SECONDS_PER_TEST)]
    # A pytest plugin (anyio's) came with the imports that are shared.
    options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    status = pytest.main([*options, *(f"tests/{test}" for test in tests)])
    sys.stdout.flush()
    os._exit(int(status))
