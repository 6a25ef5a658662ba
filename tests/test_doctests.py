"""The examples in docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import cory

PACKAGE = Path(cory.__file__).parent


def examples() -> Iterator[doctest.DocTest]:
    """Every docstring with an example, read from the source.

    doctest itself skips functions that the import hook of the tests has wrapped.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                label = f"{name}.{getattr(node, 'name', '__doc__')}"
                line = getattr(node, "lineno", 1)
                example = doctest.DocTestParser().get_doctest(text, {}, label, str(path), line)
                if example.examples:
                    yield example


EXAMPLES = list(examples())


def test_examples_are_found() -> None:
    """Prevents a search that finds nothing and so passes."""
    assert "cory.models.batch.make_batch" in {example.name for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example: doctest.DocTest) -> None:
    """Prevents documentation that shows what the code no longer does."""
    module = importlib.import_module(example.name.rpartition(".")[0])
    example.globs = dict(vars(module))
    report: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert results.failed == 0, "".join(report)
