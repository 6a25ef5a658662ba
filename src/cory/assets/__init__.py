"""Models and texts that come with the package, so that the pocket tasks need no download."""

from __future__ import annotations

from pathlib import Path

_DIRECTORY = Path(__file__).parent


def asset_names() -> list[str]:
    """Names of the embedded assets."""
    return sorted(path.name for path in _DIRECTORY.glob("pocket-*"))


def asset_path(name: str) -> str:
    """The packaged directory of an embedded asset; any other name is returned unchanged.

    So `asset_path(args.model_name_or_path)` serves embedded models, local directories and hub
    names alike. A local directory of the same name does not shadow an asset.
    """
    return str(_DIRECTORY / name) if name in asset_names() else name


def is_asset(path: str) -> bool:
    """Whether it is a path that `asset_path` gives."""
    return path in map(asset_path, asset_names())
