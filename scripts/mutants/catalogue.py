"""The list of changes: read from `changes/*.yaml`, found in the source, and applied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHANGES = Path(__file__).parent / "changes"


@dataclass(frozen=True)
class Mutant:
    """One change to the source that is a fault.

    A text of one line may be a part of a line. A text of several lines holds whole lines, without
    the indentation that they have in common: it is found at any depth.
    """

    name: str
    theme: str
    """File of the list, without its ending."""
    file: str
    """Path of the source file below `src/cory`."""
    old: str
    new: str
    breaks: str
    """What is wrong afterwards."""
    tests: tuple[str, ...]
    """Tests that must notice, as pytest names them, below `tests`."""

    def occurrences(self, source: str) -> int:
        """How often the old text stands in a source file."""
        return len(list(self._found(source)))

    def applied(self, source: str) -> str:
        """The source file with the change.

        Raises:
            ValueError: the old text does not stand there exactly once.
        """
        found = list(self._found(source))
        if len(found) != 1:
            raise ValueError(
                f"{self.name} ({self.theme}.yaml): its old text stands {len(found)} times in "
                f"src/cory/{self.file}, and must stand there once. The source has changed: change "
                "the entry with it"
            )
        start, end, indent = found[0]
        return source[:start] + _indented(self.new, indent) + source[end:]

    def _found(self, source: str) -> Iterator[tuple[int, int, str]]:
        if "\n" not in self.old + self.new:
            for match in re.finditer(re.escape(self.old), source):
                yield *match.span(), ""
            return
        lines = [re.escape(line) for line in self.old.split("\n")]
        pattern = "\n".join(f"(?P=indent){line}" if line else "" for line in lines[1:])
        first = rf"^(?P<indent>[ ]*){lines[0]}"
        whole = f"{first}\n{pattern}$" if len(lines) > 1 else f"{first}$"
        for match in re.finditer(whole, source, re.MULTILINE):
            yield *match.span(), match["indent"]


def _indented(text: str, indent: str) -> str:
    return "\n".join(indent + line if line else "" for line in text.split("\n"))


def read_mutants() -> list[Mutant]:
    """Every change, theme by theme.

    Raises:
        ValueError: two have the same name.
    """
    mutants = [
        Mutant(**{**entry, "theme": path.stem, "tests": tuple(entry["tests"])})
        for path in sorted(CHANGES.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text())
    ]
    names = [mutant.name for mutant in mutants]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two changes have the same name: {', '.join(repeated)}")
    return mutants


def chosen(mutants: Sequence[Mutant], names: Sequence[str]) -> list[Mutant]:
    """Those of the given names or themes; all, if there are none.

    Raises:
        ValueError: a name is neither.
    """
    known = {label for mutant in mutants for label in (mutant.name, mutant.theme)}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{', '.join(unknown)}: no change and no theme has this name")
    return [one for one in mutants if not names or {one.name, one.theme} & set(names)]
