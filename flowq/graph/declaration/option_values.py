"""Values of options as they are written, each read into what the plan holds, or refused by what is needed instead."""

from __future__ import annotations

import math
from typing import Any

from flowq.delivery.sizes import n_bytes
from flowq.durations import seconds


def count(value: Any) -> int:
    """How many of something: 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a whole number above 0 is needed")
    return value


def number_above_zero(value: Any) -> float:
    """How much of something, whole or not."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError("a number above 0 is needed")
    return value


def duration(value: Any) -> float:
    """Seconds."""
    if not isinstance(value, (int, float, str)) or isinstance(value, bool):
        raise TypeError('a duration is needed: seconds, or text such as "10s"')
    return seconds(value)


def duration_above_zero(value: Any) -> float:
    """Seconds, but not none."""
    if (read := duration(value)) == 0:
        raise ValueError("above 0 is needed")
    return read


def size(value: Any) -> int:
    """Bytes, but not none."""
    if not isinstance(value, (int, str)) or isinstance(value, bool) or n_bytes(value) < 1:
        raise ValueError('a size above 0 is needed: bytes, or text such as "5MB"')
    return n_bytes(value)


def flag(value: Any) -> bool:
    """Yes or no."""
    if not isinstance(value, bool):
        raise TypeError("True or False is needed")
    return value
