"""Models and texts that come with the package, so that the pocket tasks need no download."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

_DIRECTORY = Path(__file__).parent


def asset_names() -> list[str]:
    """Names of the embedded assets."""
    return sorted(path.name for path in _DIRECTORY.glob("pocket-*"))


def asset_path(name: str) -> str:
    """The packaged directory of an embedded asset; any other name is returned unchanged.

    So `asset_path(args.model_name_or_path)` serves embedded models, local directories and hub
    names alike. A local directory of the same name does not shadow an asset.

    Raises:
        ValueError: nothing of that name is here, and none can be on the Hub: it looks like a path,
            or like a misspelt asset.
    """
    if name in asset_names():
        return str(_DIRECTORY / name)
    if not Path(name).exists():
        if _looks_like_a_path(name):
            raise ValueError(f"there is no directory {name!r:.300}{_near(name, _beside(name))}")
        if "/" not in name and (near := _near(name, asset_names(), cutoff=0.8)):
            raise ValueError(f"there is no embedded asset {name!r:.300}{near}")
    return name


def is_asset(path: str) -> bool:
    """Whether it is a path that `asset_path` gives."""
    return path in map(asset_path, asset_names())


def _looks_like_a_path(name: str) -> bool:
    """Whether it is no `OWNER/NAME`, or `OWNER` is a directory here."""
    first, *rest = name.split("/")
    is_path = name.startswith((".", "~", "/")) or len(rest) > 1 or "\\" in name
    return is_path or (bool(rest) and (first == "runs" or Path(first).is_dir()))


def _beside(name: str) -> list[str]:
    """The directories beside the place where one of this name would be."""
    parent = Path(name.rstrip("/")).parent
    here = sorted(parent.iterdir()) if parent.is_dir() else []
    return [str(path) for path in here if path.is_dir() and not path.name.startswith(".")]


def _near(name: str, known: list[str], cutoff: float = 0.6) -> str:
    matches = get_close_matches(name.rstrip("/"), known, n=3, cutoff=cutoff)
    return f": did you mean {' or '.join(matches)}?" if matches else ""
