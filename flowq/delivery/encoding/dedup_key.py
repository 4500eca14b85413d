"""Deduplication keys: the hash by which a stage recognises a message that it has already had."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, cast

NO_KEY = b""
"""The hash of a message without a key, which is never a duplicate."""

_IS_AN_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+>").search


def dedup_hash(value: Any) -> bytes:
    """A 16-byte hash of a dedup value; among 10**12 values, the chance of any collision is below 10**-14.

    None is not a key, nor is a value unequal to itself, such as NaN. Values of different types are different keys:
    1, "1" and True are three. Raises TypeError for an object whose text shows nothing but its address.

    >>> len(dedup_hash("https://example.org/")), dedup_hash(None), dedup_hash(1) == dedup_hash("1")
    (16, b'', False)
    """
    if value is None or _is_unequal_to_itself(value):
        return NO_KEY
    if isinstance(value, str):  # a StrEnum too, which equals its text
        return _hash(str.__str__(value), b"")
    return _hash(_text_of(value), b"no text")


def _hash(text: str, kind: bytes) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=kind).digest()


def _text_of(value: Any) -> str:
    if isinstance(value, int) and type(value) is not bool:  # an IntEnum too, which equals its number
        return f"int {int.__index__(value):x}"
    is_set = isinstance(value, set | frozenset)  # equal sets may iterate in different orders
    text = repr(sorted(repr(item) for item in cast("Iterable[object]", value))) if is_set else str(value)
    if _IS_AN_ADDRESS(text):
        raise TypeError(f"a {type(value).__name__} cannot be a key: its str() is its address")
    return f"{type(value).__qualname__} {text}"


def _is_unequal_to_itself(value: Any) -> bool:
    try:
        return bool(value != value)
    except Exception:  # noqa: BLE001  (the user's __ne__, an array's truth, a signalling NaN)
        return False
