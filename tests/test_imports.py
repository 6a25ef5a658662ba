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

# Each room may import those below it; rooms on one line may import one another.
ROOMS = (
    ("__main__",),
    ("cli",),
    ("compare",),
    ("report", "plots"),
    ("trainer", "runs"),
    ("launch",),
    ("callbacks", "console", "records", "samples"),
    ("workbench",),
    ("checkpoint",),
    ("evaluate",),
    ("alarms",),
    ("agent",),
    ("guards", "learning"),
    ("engines",),
    ("lessons", "averaging"),
    ("rollout",),
    ("transfer",),
    ("metrics",),
    ("types",),
    ("vllm",),
    ("sampling",),
    ("answering", "mixed_adapters"),
    ("fixed_decoding",),
    ("decoding",),
    ("prompts",),
    ("models",),
    ("penalties",),
    ("scores",),
    ("policy",),
    ("batch", "layers", "heads"),
    ("weights",),
    ("rewards", "tasks"),
    ("data",),
    ("controllers", "optimizers"),
    ("estimators",),
    ("losses", "logprobs"),
    ("roles", "copying"),
    ("validation",),
    ("config",),
    ("presets",),
    ("settings",),
    ("seeding", "environment"),
    ("agreements",),
    ("memory", "locks", "digests", "signals"),
    ("files",),
    ("processes",),
    ("sharding",),
    ("faults",),
    ("allocation", "cores", "statistics", "terminal", "names", "yaml_files", "pickles"),
    ("assets",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}

# A config is checked when it is made, and a task's defaults are part of making one; both live
# above it because they speak of configs. These two calls are why `config` looks up, inside the
# functions that need them, so that no import goes in a circle.
UPWARD_EXCEPTIONS = {
    ("config", "cory.validation", "validate"),
    ("config", "cory.tasks", "task_defaults"),
}

TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".cfg", ".sh", ""}
NOT_THE_PROJECT = re.compile(r"^\.(?!ci$)|^(?:runs|build|dist|__pycache__)$")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|opt|home|Users)/")

SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def executed_imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of every import but those under `if TYPE_CHECKING:`.

    Those never run; they tell the type checker where a name in an annotation comes from.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write it from `cory`"
            yield from ((node.module or "", alias.name) for alias in node.names)
        yield from executed_imports(node)


def imported_room(module: str, name: str) -> str | None:
    """Return the room that an import reaches, None if it leaves the package or names no room.

    `from cory import losses` names a room, `from cory import __version__` does not.
    """
    package, *rooms = module.split(".")
    if package != "cory":
        return None
    room = rooms[0] if rooms else name
    return room if rooms or room in LEVEL else None


def upward_imports(room: str, source: str) -> list[str]:
    """List the imports of a room that go up."""
    upward = []
    for module, name in executed_imports(ast.parse(source)):
        target = imported_room(module, name)
        if target is None or (room, module, name) in UPWARD_EXCEPTIONS:
            continue
        assert target in LEVEL, f"{target} has no place in ROOMS: give it one"
        if LEVEL[target] < LEVEL[room]:
            upward.append(f"from {module} import {name}")
    return upward


@pytest.mark.parametrize("path", SOURCES, ids=module_id)
def test_imports_go_down_the_list_of_rooms(path: Path) -> None:
    """Prevents import cycles, and maths that knows about trainers."""
    room = room_of(path)
    if room == "__init__":
        assert not [m for m, _ in executed_imports(ast.parse(path.read_text())) if "cory" in m]
        return
    assert room in LEVEL, f"{room} has no place in ROOMS: give it one"
    assert upward_imports(room, path.read_text()) == []


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("losses", "from cory.trainer import CORYTrainer", 1),
        ("losses", "def f():\n    from cory import trainer", 1),
        ("losses", "import cory.agent", 1),
        ("trainer", "from cory.losses import full_kl\nimport torch", 0),
        ("tasks", "from cory.rewards import x\nfrom cory.tasks.gsm8k import y", 0),
        ("losses", "if TYPE_CHECKING:\n    from cory.trainer import CORYTrainer", 0),
        ("config", "def f():\n    from cory.validation import validate", 0),
        ("config", "def f():\n    from cory.tasks import load_task", 1),
    ],
)
def test_the_direction_test_finds_what_it_should(room: str, source: str, found: int) -> None:
    """Prevents a direction test that passes because it sees no import at all."""
    assert len(upward_imports(room, source)) == found


@pytest.mark.parametrize("path", SOURCES, ids=module_id)
def test_no_file_is_too_long(path: Path) -> None:
    """Prevents rooms in which nobody finds anything."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


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

    from cory.losses import masked_mean

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
