"""Settings of a run, read from the config.yaml in its directory. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cory.config.replaced import todays_settings
from cory.io.yaml import read_yaml

CONFIG_FILE = "config.yaml"


def saved_settings(directory: Path) -> dict[str, Any] | None:
    """Read the config.yaml of a run directory, with old names replaced by today's.

    Returns:
        settings by name, not checked; None if the directory has no config.yaml.

    Raises:
        ValueError: the file cannot be read, or holds something else than settings.
    """
    path = directory / CONFIG_FILE
    if not path.is_file():
        return None
    saved = read_yaml(path)
    if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
        raise ValueError(f"{path} holds no settings: it must have lines such as `max_steps: 100`")
    return todays_settings(saved)
