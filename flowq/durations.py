"""Durations as people write them, in seconds."""

from __future__ import annotations

import math
import re

_SECONDS_IN = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*")


def seconds(value: float | str) -> float:
    """The seconds of a duration: a number of them, or text such as "250ms", "10s", "5m", "2h", "1d".

    Raises ValueError for anything else, and for a duration that is negative or not finite.

    >>> seconds("250ms"), seconds("5m"), seconds(2), seconds("2.5")
    (0.25, 300.0, 2.0, 2.5)
    """
    if isinstance(value, str) and (written := _WRITTEN.fullmatch(value)):
        return float(written[1]) * _SECONDS_IN[written[2]]
    if isinstance(value, (str, bool)) or not isinstance(value, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f'{value!r} is not a duration; write a number of seconds, or "250ms", "10s", "5m", "1d"')
    if not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is not a duration; it must be a finite number of seconds, 0 or more")
    return float(value)
