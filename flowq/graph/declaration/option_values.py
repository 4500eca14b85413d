"""Reads the values of options: each function returns the value as the plan has it, or raises what it must be."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from pydantic import ByteSize, TypeAdapter, ValidationError

from flowq.delivery.placement import MOST_SHARDS
from flowq.durations import seconds


def count(value: Any) -> int:
    """An integer of 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number above 0")
    return value


def number_of_shards(value: Any) -> int:
    """How many shards a pipeline has."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_SHARDS:
        raise ValueError(f"must be a whole number from 1 to {MOST_SHARDS}")
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
    """Bytes, at least one: a number of them, or text such as "500kB", "64MB", "1GiB".

    >>> size("1.5MB"), size("1 KiB"), size(200)
    (1500000, 1024, 200)
    """
    try:
        n_bytes = 0 if isinstance(value, bool) else int(_byte_size().validate_python(value))
    except ValidationError:
        n_bytes = 0
    if n_bytes < 1:
        raise ValueError('must be a size above 0: bytes, or text such as "5MB"')
    return n_bytes


@cache
def _byte_size() -> TypeAdapter[ByteSize]:
    return TypeAdapter(ByteSize)  # not at import: it takes milliseconds, and few pipelines write sizes


def flag(value: Any) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise TypeError("must be True or False")
    return value
