"""Which experiment a run is, so that none is run twice and none is taken for another. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cory import __version__
from cory.config import SETTINGS, CORYConfig


def fingerprint(args: CORYConfig) -> str:
    """Eight signs that differ for runs with different results.

    They cover the settings that are not the default, the version of cory, and the files of reward
    functions and queries, so that an edited reward is another run.
    """
    defaults = CORYConfig().to_dict()
    changed = {
        name: value
        for name, value in args.to_dict().items()
        if SETTINGS[name].affects_result and value != defaults[name]
    }
    files = [Path(name.rpartition(":")[0]) for name in args.reward_funcs or ()]
    files += [Path(args.dataset_name)] if args.dataset_name else []
    digests = [_digest(path) for path in files if path.is_file()]
    identity = json.dumps([changed, digests, __version__], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def result_differences(saved: Mapping[str, Any], args: CORYConfig) -> list[str]:
    """Settings of a run's config.yaml under which it has other results than `args` would give.

    A setting that is not in the file is younger than the run, whose value was the default. A name
    that is no setting counts as a difference: what it did is not known any more.

    Args:
        saved: as `cory.config.saved` reads them.
        args: of the planned run.
    """
    planned, defaults = args.to_dict(), CORYConfig().to_dict()
    differences = [
        name
        for name in planned
        if SETTINGS[name].affects_result and saved.get(name, defaults[name]) != planned[name]
    ]
    return differences + [name for name in saved if name not in planned]
