"""Durations as people write and read them."""

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


def duration_text(seconds: float) -> str:
    """A duration in a few characters, to two digits or two units.

    >>> [duration_text(seconds) for seconds in (0, 0.0004, 0.062, 3.21, 42, 125, 7500, 200_000)]
    ['0s', '0.4ms', '62ms', '3.2s', '42s', '2m05s', '2h05m', '2d07h']
    """
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.1f}ms" if seconds < 0.00095 else f"{seconds * 1000:.0f}ms"
    if seconds < 59.5:
        return f"{seconds:.1f}s".replace(".0s", "s") if seconds < 9.95 else f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"
