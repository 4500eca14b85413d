"""Reads the values of options: each function returns the value as the plan has it, or raises what it must be."""

from __future__ import annotations

import math
from typing import Any

from flowq.delivery.sizes import n_bytes
from flowq.durations import seconds


def count(value: Any) -> int:
    """An integer of 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number above 0")
    return value


def number_above_zero(value: Any) -> float:
    """A finite number above 0."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError("must be a number above 0")
    return value


def duration(value: Any) -> float:
    """Seconds."""
    if not isinstance(value, (int, float, str)) or isinstance(value, bool):
        raise TypeError('must be a duration: seconds, or text such as "10s"')
    return seconds(value)


def duration_above_zero(value: Any) -> float:
    """Seconds, more than 0."""
    if (read := duration(value)) == 0:
        raise ValueError("must be above 0")
    return read


def size(value: Any) -> int:
    """Bytes, at least one."""
    if not isinstance(value, (int, str)) or isinstance(value, bool) or n_bytes(value) < 1:
        raise ValueError('must be a size above 0: bytes, or text such as "5MB"')
    return n_bytes(value)


def flag(value: Any) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise TypeError("must be True or False")
    return value
