"""The Hugging Face Hub: where it is out of reach, a load looks at once at what is on this disk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

SECONDS_TO_CONNECT = 10.0
"""As long as the Hub's client waits itself."""


@contextmanager
def asking_the_hub(name: str | Path) -> Iterator[None]:
    """Context of a load of a name, which may be one on the Hub.

    The Hub's client asks again for most of a minute where there is no network. Here it is told that
    it is offline, so that it takes what was downloaded before, or ends.
    """
    from huggingface_hub import constants

    if Path(name).exists() or constants.HF_HUB_OFFLINE or _is_within_reach(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _is_within_reach(address: str) -> bool:
    parts = urlsplit(address)
    if getproxies():
        return True  # only the proxy knows
    try:
        _connect(parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))
    except OSError:
        return False
    return True


# One that failed is not kept: the network may come back.
@cache
def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), SECONDS_TO_CONNECT).close()
