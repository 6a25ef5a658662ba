"""The list of changes for `make mutants` fits the source and the tests, and the runner judges."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from scripts.mutants import __main__ as command
from scripts.mutants.catalogue import ROOT, Mutant, chosen, read_mutants
from scripts.mutants.running import FAILED, PASSED, Outcome

MUTANTS = read_mutants()
THEMES = {
    "roles_and_exchange",
    "rollout_and_prompts",
    "rewards",
    "masks_and_batch",
    "losses",
    "advantages",
    "filtering",
    "loss_variants",
    "kl",
    "update_and_optimizer",
    "transfer_and_partner_samples",
    "averages",
    "evaluation",
    "samples",
    "checkpoints",
    "comparison",
    "seeds",
    "engines_and_processes",
    "probe",
}
LEAST_NUMBER = 70


@functools.cache
def functions_of(path: Path) -> frozenset[str]:
    """Names of the test functions of a file."""
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def problems_of(mutant: Mutant) -> list[str]:
    """What does not fit, in words."""
    source = (ROOT / "src/cory" / mutant.file).read_text()
    found = mutant.occurrences(source)
    problems = [] if found == 1 else [f"its old text stands {found} times in {mutant.file}"]
    if not problems and mutant.applied(source) == source:
        problems.append("it changes nothing")
    for test in mutant.tests:
        name, _, function = re.sub(r"\[.*", "", test).partition("::")
        path = ROOT / "tests" / name
        if not path.is_file() or (function and function not in functions_of(path)):
            problems.append(f"there is no test {test}")
    return [f"{mutant.theme}: {mutant.name}: {problem}" for problem in problems]


def test_every_change_fits_the_source_and_its_tests_exist() -> None:
    """Prevents a list that rots: a change that no longer applies, or a test that is gone."""
    assert [problem for mutant in MUTANTS for problem in problems_of(mutant)] == []


def test_every_change_is_python() -> None:
    """Prevents changes that are noticed by not even being imported."""
    for mutant in MUTANTS:
        ast.parse(mutant.applied((ROOT / "src/cory" / mutant.file).read_text()), mutant.name)


def test_every_mechanism_has_changes() -> None:
    """Prevents a theme from losing its file without anybody noticing."""
    assert {mutant.theme for mutant in MUTANTS} == THEMES
    assert len(MUTANTS) >= LEAST_NUMBER
    assert all(mutant.tests and mutant.breaks for mutant in MUTANTS)


def mutant_of(old: str, new: str, name: str = "made-up") -> Mutant:
    return Mutant(name, "theme", "file.py", old, new, "something", ("test_a.py",))


SOURCE = """\
def first():
    if a:
        do(1)
        do(2)

def second():
    do(1)
"""


def test_a_text_of_several_lines_is_found_at_any_depth() -> None:
    """Prevents entries that depend on how deep a function is nested."""
    changed = mutant_of("if a:\n    do(1)", "if b:\n    do(3)\n    do(4)").applied(SOURCE)
    assert changed == SOURCE.replace("if a:\n        do(1)", "if b:\n        do(3)\n        do(4)")
    assert mutant_of("do(2)", "do(2)\nstop()").applied(SOURCE).count("        stop()\n") == 1
    assert mutant_of("a:\n    do(1)", "b:\n    do(1)").occurrences(SOURCE) == 0, "whole lines"


def test_a_text_that_is_not_there_once_is_refused() -> None:
    """Prevents a change of another line than the one that was meant."""
    with pytest.raises(ValueError, match="2 times"):
        mutant_of("do(1)", "do(0)").applied(SOURCE)
    with pytest.raises(ValueError, match="0 times"):
        mutant_of("do(9)", "do(0)").applied(SOURCE)


def test_changes_are_chosen_by_name_or_theme() -> None:
    """Prevents a misspelt name from testing nothing, which looks like success."""
    first = MUTANTS[0]
    assert chosen(MUTANTS, [first.name]) == [first]
    assert {mutant.theme for mutant in chosen(MUTANTS, [first.theme])} == {first.theme}
    assert chosen(MUTANTS, []) == MUTANTS
    with pytest.raises(ValueError, match="losess"):
        chosen(MUTANTS, ["losess"])


class Copies:
    """In place of copies of the tree: what pytest would end with."""

    def __init__(self, status: int, unchanged: int = PASSED) -> None:
        self.status, self.unchanged = status, unchanged

    def run(self, tests: object, mutant: Mutant | None = None) -> Outcome:
        status = self.unchanged if mutant is None else self.status
        return Outcome(status, 1.0, "FAILED tests/test_a.py::test_it - assert 1 == 2\n")


@pytest.mark.parametrize(
    ("copies", "expected", "text"),
    [
        (Copies(FAILED), 0, "made-up: noticed by test_a.py::test_it"),
        (Copies(PASSED), 1, "made-up: SURVIVED"),
        (Copies(4), 1, "made-up: BROKEN"),
        (Copies(FAILED, unchanged=FAILED), 1, "fail on the source as it is"),
    ],
    ids=["noticed", "survived", "not run", "red anyway"],
)
def test_only_failing_tests_notice(
    copies: Copies, expected: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a survivor, a test that cannot run, or one that always fails from looking good."""
    assert command.judged(copies, [mutant_of("a", "b")], jobs=1) == expected
    assert text in capsys.readouterr().out
