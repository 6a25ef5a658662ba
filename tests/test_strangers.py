"""Options, files of a run, a server's answers and chat rows of any content: a result or one error.

`python -m scripts.fuzz.strangers 100000` asks the same of more inputs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.fuzz.strangers import CHECKS, check

INPUTS = {"settings": 15, "metrics": 25, "server": 400, "evaluation": 100}
"""Where it is not 60; reading YAML takes long."""


@pytest.mark.parametrize("kind", CHECKS)
def test_any_input_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    """Prevents a traceback, or a wait without end, for what somebody else wrote."""
    sound = sum(check(kind, seed, tmp_path) for seed in range(INPUTS.get(kind, 60)))
    assert 0 < sound < INPUTS.get(kind, 60), "neither are all refused, nor is nothing"
