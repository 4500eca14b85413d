"""Durations as people write them, turned into seconds."""

from __future__ import annotations

import math
import re

_SECONDS_IN = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def seconds(value: float | str) -> float:
    """A number of seconds as it is, or text such as "250ms", "10s", "5m", "2h", "1d" in seconds.

    Raises ValueError for any other text, and for a duration that is negative or not finite.

    >>> seconds("250ms"), seconds("5m"), seconds(2)
    (0.25, 300.0, 2.0)
    """
    if isinstance(value, str):
        written = _WRITTEN.fullmatch(value)
        if written is None:
            raise ValueError(f'{value!r} is not a duration; write a number of seconds, or "250ms", "10s", "5m", "1d"')
        return float(written[1]) * _SECONDS_IN[written[2]]
    if not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is not a duration; it must be a finite number of seconds, 0 or more")
    return float(value)
