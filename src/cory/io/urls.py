"""Addresses as they may be shown."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?<=://)\S*@")


def without_password(url: str) -> str:
    """An address without the name and the password that it may hold.

    >>> without_password("http://me:secret@host:8000"), without_password("http://host")
    ('http://***@host:8000', 'http://host')
    """
    return _CREDENTIALS.sub("***@", url)
