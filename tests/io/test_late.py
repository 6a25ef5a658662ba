"""Modules that are imported late: only when asked for, and then as ever."""

from __future__ import annotations

import inspect
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from cory.io.late import Late, importing_late

NAME = "a_slow_library"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that counts in `started` how often it, and its part, are executed."""
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import part\nanswer = 42\n")
    (folder / "part.py").write_text("import sys\nsys.started = getattr(sys, 'started', 0) + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "started", 0, raising=False)
    for name in (NAME, f"{NAME}.part"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("library")
def test_a_late_module_is_imported_when_it_is_asked() -> None:
    """Prevents a name that stays empty where quantised weights need it."""
    with importing_late(NAME):
        import a_slow_library as held  # pyright: ignore[reportMissingImports]
    assert type(held) is Late
    assert NAME not in sys.modules
    assert sys.started == 0  # pyright: ignore[reportAttributeAccessIssue]
    assert held.answer == 42
    assert held.part is sys.modules[f"{NAME}.part"]
    assert sys.modules[NAME].answer == 42
    assert sys.started == 1  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.usefixtures("library")
def test_it_is_also_imported_when_it_is_asked_inside() -> None:
    """Prevents a module that looks for itself for ever."""
    with importing_late(NAME):
        from a_slow_library import answer  # pyright: ignore[reportMissingImports]
    assert answer == 42
    assert type(sys.modules[NAME]) is not Late


@pytest.mark.usefixtures("library")
def test_who_looks_at_all_modules_does_not_wake_it() -> None:
    """Prevents an import by a warning, or by whoever looks for the home of a function."""
    with importing_late(NAME):
        assert find_spec(NAME) is not None
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            warnings.warn("for all", stacklevel=1)
        inspect.getmodule(test_it_is_also_imported_when_it_is_asked_inside)
        assert not hasattr(sys.modules[NAME], "__warningregistry__")
    assert sys.started == 0  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_missing_or_there_stays_so() -> None:
    """Prevents a library that seems to be installed, and two copies of one."""
    with importing_late("no_such_library"), pytest.raises(ModuleNotFoundError):
        import no_such_library  # pyright: ignore[reportMissingImports]  # noqa: F401
    with importing_late("pathlib"):
        assert sys.modules["pathlib"].Path is Path
