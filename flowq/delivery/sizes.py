"""Sizes as people write them, turned into bytes."""

from __future__ import annotations

import re

_BYTES_IN = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B)\s*", re.IGNORECASE)


def n_bytes(value: int | str) -> int:
    """A number of bytes as it is, or text such as "500kB", "64MB", "1GiB" in bytes.

    Raises ValueError for any other text, and for a number that is negative.

    >>> n_bytes("1.5MB"), n_bytes("1 KiB"), n_bytes(200)
    (1500000, 1024, 200)
    """
    if isinstance(value, str):
        written = _WRITTEN.fullmatch(value)
        if written is None or written[2].lower() not in _BYTES_IN:
            raise ValueError(f'{value!r} is not a size; write a number of bytes, or "500kB", "64MB", "1GiB"')
        return round(float(written[1]) * _BYTES_IN[written[2].lower()])
    if value < 0:
        raise ValueError(f"{value!r} is not a size; it must be a number of bytes, 0 or more")
    return value
