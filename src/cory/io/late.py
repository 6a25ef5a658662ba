"""Modules that are imported when something of them is asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class Late(ModuleType):
    """Stands for a module, which is imported when one of its names is asked for."""

    def __getattr__(self, name: str) -> Any:
        # What looks at all modules asks such names of each.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} yet")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def importing_late(name: str) -> Iterator[None]:
    """Context in which `import NAME` gives a `Late` module; who has it may keep it.

    Behind it, importing the module is what it always is. `importlib.util.LazyLoader` does not do
    this: it loads as soon as an import statement meets the module. Nothing happens where the module
    is not installed, or is imported already.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        yield
        return
    late = Late(name)
    late.__spec__ = spec
    late.__file__ = spec.origin
    sys.modules[name] = late
    try:
        yield
    finally:
        if sys.modules.get(name) is late:
            del sys.modules[name]
