"""Which experiment a run is, so that none is run twice and none is taken for another. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cory import __version__
from cory.config import CORYConfig
from cory.io.digests import file_digest

NOT_OF_THE_RESULT = frozenset(
    {
        "output_dir",
        "resume",
        "report_to",
        "run_name",
        "logging_steps",
        "log_samples_steps",
        "save_steps",
        "save_total_limit",
        "metric_for_best_model",
        "greater_is_better",
        "shard_weights",
        "ddp_timeout",
        "vllm_server_timeout",
        "vllm_request_timeout",
        "vllm_adapter_dir",
        "min_entropy",
        "max_kl_per_token",
        "min_unique_share",
        "alarm_patience",
    }
)
"""Settings that change no number in the results: two runs that differ only here are one run."""


def fingerprint(args: CORYConfig) -> str:
    """Eight signs that differ for runs with different results.

    They cover the settings that are not the default, the version of cory, and the files of reward
    functions and queries, so that an edited reward is another run.
    """
    defaults = CORYConfig().to_dict()
    changed = {
        name: value
        for name, value in args.to_dict().items()
        if name not in NOT_OF_THE_RESULT and value != defaults[name]
    }
    files = [Path(name.rpartition(":")[0]) for name in args.reward_funcs or ()]
    files += [Path(args.dataset_name)] if args.dataset_name else []
    digests = [file_digest(path) for path in files if path.is_file()]
    identity = json.dumps([changed, digests, __version__], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def result_differences(saved: Mapping[str, Any], args: CORYConfig) -> list[str]:
    """Settings of a run's config.yaml under which it has other results than `args` would give.

    A setting that is not in the file is younger than the run, whose value was the default.
    """
    planned, defaults = args.to_dict(), CORYConfig().to_dict()
    return [
        name
        for name in planned
        if name not in NOT_OF_THE_RESULT and saved.get(name, defaults[name]) != planned[name]
    ]
