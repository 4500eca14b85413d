"""Picks the few values of a proven type that need a comparison after all."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from pydantic_core import TzInfo

Suspect = Callable[[Any, bytes], bool]
"""Whether a value with this encoding must be compared with what would arrive."""

MOST_DIGITS = 4300  # of an integer that can be decoded
_MOST_BITS = 14_280  # an integer of at most this many bits has fewer digits than that
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")


def is_null_among_it(value: Any, body: bytes) -> bool:
    """Infinity and NaN are written as null."""
    return b"null" in body


def has_odd_moment(names: Sequence[str]) -> Suspect:
    """Only UTC, no zone, and offsets of whole minutes are sure to arrive unchanged."""
    getters = [attrgetter(name) if name else _itself for name in names]

    def suspect(value: Any, body: bytes) -> bool:
        try:
            for get in getters:
                moment = get(value)
                zone = None if moment is None else moment.tzinfo
                if zone is not None and zone is not datetime.UTC and not isinstance(zone, TzInfo):
                    return True
        except AttributeError:  # a field that was deleted, or set without validation
            return True
        return False

    return suspect


def has_long_integer(names: Sequence[str], *, search: bool) -> Suspect:
    """An integer of more than `MOST_DIGITS` digits cannot be decoded. With `search` it may be anywhere in the body."""
    getters = [attrgetter(name) if name else _itself for name in names]

    def suspect(value: Any, body: bytes) -> bool:
        if search and b"0" * MOST_DIGITS in body.translate(_TO_ZEROS):
            return True
        try:
            numbers = [get(value) for get in getters]
            return any(number is not None and number.bit_length() > _MOST_BITS for number in numbers)
        except AttributeError:  # a field that was deleted, or set without validation
            return True

    return suspect


def may_hold_subclass(classes: Sequence[type[Any]]) -> Suspect:
    """An instance of a subclass would arrive as its base class. Most classes have no subclass."""
    subclasses = [class_.__subclasses__ for class_ in classes]

    def suspect(value: Any, body: bytes) -> bool:
        return any(below() for below in subclasses)

    return suspect


def _itself(value: Any) -> Any:
    return value
