"""The shape of the project: which way imports go, how long files are, what importing costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "cory"
MAX_LINES = 300

# Each package may import those below it. Packages on one line do not know each other.
PACKAGES = (
    ("cli", "trl"),
    ("compare", "report"),
    ("training",),
    ("tasks",),
    ("team",),
    ("rewards", "generation"),
    ("models",),
    ("distributed",),
    ("config",),
    ("io", "algorithm", "assets"),
)
LEVEL = {name: level for level, names in enumerate(PACKAGES) for name in names}
# At the top of the package: the entry point, the public names, and two public names of modules.
TOP_FILES = {"__init__", "__main__", "losses", "estimators"}

TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".cfg", ".sh", ""}
NOT_THE_PROJECT = re.compile(r"^\.(?!ci$)|^(?:runs|build|dist|site|__pycache__)$")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|opt|home|Users)/")

SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """`cory.team.roles` for its file, `cory.team` for the package's `__init__`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imports_of(source: str) -> Iterator[str]:
    """Modules of cory that a source imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("cory"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write it from `cory`"
            if (node.module or "").split(".")[0] == "cory":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if name in MODULES else str(node.module) for name in names)


def forbidden_imports(package: str, source: str) -> list[str]:
    """Imports of a package's source that go up, or aside to a package on the same line."""
    targets = {name.split(".")[1] for name in imports_of(source) if name != "cory"}
    return sorted(
        target
        for target in targets - {package}
        if target not in LEVEL or LEVEL[target] <= LEVEL[package]
    )


def test_the_top_of_the_package_is_the_list_of_packages() -> None:
    """Prevents a package, or a file at the top, that nobody has given a place."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == LEVEL.keys()
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP_FILES


def test_packages_import_downwards() -> None:
    """Prevents circles between packages, and mathematics that knows about trainers."""
    found = {
        name: forbidden
        for name, path in MODULES.items()
        if name.count(".") and path.parent != PACKAGE
        if (forbidden := forbidden_imports(name.split(".")[1], path.read_text()))
    }
    assert found == {}


def test_modules_import_in_no_circle() -> None:
    """Prevents two files of one package that need each other, be it for an annotation only."""
    arrows = {name: set(imports_of(path.read_text())) for name, path in MODULES.items()}
    arrows.pop("cory")
    while leaves := {name for name, targets in arrows.items() if not targets & arrows.keys()}:
        for leaf in leaves:
            del arrows[leaf]
    assert arrows == {}


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("algorithm", "from cory.training.trainer import CORYTrainer", ["training"]),
        ("algorithm", "def f():\n    from cory.team import agent", ["team"]),
        ("team", "if TYPE_CHECKING:\n    from cory.training import setup", ["training"]),
        ("compare", "import cory.report.pages", ["report"]),
        ("team", "from cory.losses import full_kl", ["losses"]),
        ("training", "from cory.algorithm import losses\nimport torch", []),
        ("tasks", "from cory.rewards import x\nfrom cory.tasks.gsm8k import y", []),
    ],
)
def test_the_direction_test_finds_what_it_should(
    package: str, source: str, found: list[str]
) -> None:
    """Prevents a direction test that passes because it sees no import at all."""
    assert forbidden_imports(package, source) == found


def test_every_package_says_what_lives_there() -> None:
    """Prevents a folder whose contents must be guessed from its files."""
    silent = [
        p for p in PACKAGE.rglob("__init__.py") if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert silent == []


def test_no_file_is_too_long() -> None:
    """Prevents files in which nobody finds anything."""
    assert [
        name for name, path in MODULES.items() if path.read_text().count("\n") > MAX_LINES
    ] == []


@pytest.mark.parametrize(
    "module", ["cory", "cory.config", "cory.tasks", "cory.cli", "cory.cli.compare"]
)
def test_importing_does_not_load_torch(module: str) -> None:
    """Prevents a `cory --help`, and an argument error, that take ten seconds to appear."""
    heavy = "{'torch', 'transformers', 'datasets', 'peft', 'matplotlib'}"
    program = f"import sys, {module}; print(sorted({heavy} & sys.modules.keys()))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    """Prevents a lazy export that points to a name its module no longer has."""
    import cory

    for name in cory.__all__:
        assert getattr(cory, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = cory.absent  # pyright: ignore[reportAttributeAccessIssue]


def test_annotations_are_checked_in_tests() -> None:
    """Prevents an import hook that comes too late, after which no shape is checked anywhere."""
    import torch
    from jaxtyping import TypeCheckError

    from cory.algorithm.losses import masked_mean

    with pytest.raises(TypeCheckError, match="response_mask"):
        masked_mean(torch.ones(2, 3), torch.ones(2, 4, dtype=torch.bool))


def test_no_file_names_a_path_of_one_machine() -> None:
    """Prevents defaults, examples and logs that work on their author's machine only."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in ROOT.rglob("*")
        if path.suffix in TEXT_SUFFIXES
        and path.is_file()
        and not any(map(NOT_THE_PROJECT.match, path.relative_to(ROOT).parts[:-1]))
        for line in path.read_text(errors="ignore").splitlines()
        if MACHINE_PATH.search(line)
    ]
    assert found == []
