"""Parses values stored in Redis, which are not trusted: the result is bounded, or the error is a ValueError."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import orjson

LAST_MS = 253_402_300_799_999
"""The last millisecond that a date can name: the end of the year 9999."""

_MOST_DIGITS = 15
_NUMBER = re.compile(r"[0-9]{1,15}")
_COUNT = re.compile(r"-?[0-9]{1,15}")
_ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_LARGEST_PART = 2**64 - 1
MOST_JSON_BYTES = 1_000_000


def text_in(raw: bytes) -> str:
    r"""Bytes as text, those that are not UTF-8 as escapes.

    >>> text_in(b"caf\xc3\xa9 \xff")
    'café \\xff'
    """
    return raw.decode("utf-8", "backslashreplace")


def name_in(raw: bytes) -> str:
    """The name of a consumer, which may be any bytes; `as_stored` returns the same bytes again."""
    return raw.decode("utf-8", "surrogateescape")


def as_stored(name: str) -> bytes:
    """The bytes of a name from `name_in`, or of any other text."""
    return name.encode("utf-8", "surrogateescape")


def number_in(text: str) -> int:
    """A number of up to 15 ASCII digits. Raises ValueError.

    `int` also accepts signs, underscores, digits of other scripts, and numbers too large for JSON or a date.
    """
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("not a number of up to 15 digits")
    return int(text)


def count_in(raw: bytes | str) -> int:
    """A counter, which may be negative; 0 for anything else.

    >>> count_in(b"-12"), count_in(b"9" * 5000), count_in(b"many")
    (-12, 0, 0)
    """
    if isinstance(raw, bytes):
        if raw.isdigit() and len(raw) <= _MOST_DIGITS:  # nearly always: a third of the price
            return int(raw)
        raw = text_in(raw)
    return int(raw) if _COUNT.fullmatch(raw) else 0


def moment_in(value: object) -> int:
    """A time in milliseconds since 1970, given as a number or text, clamped to the range of dates.

    >>> moment_in(b"1700000000000"), moment_in("inf"), moment_in(-5), moment_in(None)
    (1700000000000, 253402300799999, 0, 0)
    """
    if isinstance(value, bytes):
        if value.isdigit() and len(value) <= _MOST_DIGITS:  # nearly always
            return min(int(value), LAST_MS)
        value = text_in(value)
    if isinstance(value, str):
        try:
            value = float(value[:400])
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return 0
    return round(min(max(value, 0), LAST_MS))


def seconds_in(text: str, *, most: float = 1e9) -> float:
    """A number of seconds from 0 to `most`; 0 for anything else."""
    try:
        value = float(text[:400])
    except ValueError:
        return 0.0
    return min(value, most) if value > 0 else 0.0  # NaN is not above 0


def entry_ms(entry_id: bytes | str) -> int:
    """When an entry was added to its stream, in milliseconds since 1970. Its id may have been chosen by hand."""
    ms = entry_id.partition(b"-")[0] if isinstance(entry_id, bytes) else entry_id.partition("-")[0]
    return moment_in(ms)


def is_entry_id(text: str) -> bool:
    """Whether Redis accepts a text as the id of an entry.

    >>> is_entry_id("1700000000000-0"), is_entry_id("order 42"), is_entry_id(f"{2**64}-0")
    (True, False, False)
    """
    if _ENTRY_ID.fullmatch(text) is None:
        return False
    return all(int(part) <= _LARGEST_PART for part in text.split("-"))


def json_object_in(raw: bytes) -> Mapping[str, Any] | None:
    """A JSON object of up to a megabyte; None for anything else."""
    if len(raw) > MOST_JSON_BYTES:
        return None
    try:
        value: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:  # includes JSON nested too deeply
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def texts_in(value: object) -> tuple[str, ...]:
    """The texts in a JSON list; none if it is not a list."""
    items = cast("Iterable[object]", value) if isinstance(value, list) else ()
    return tuple(item for item in items if isinstance(item, str))


def counts_in(value: object) -> dict[str, int]:
    """The counts, of up to 15 digits, in a JSON object; none if it is not an object."""
    items = cast("dict[str, object]", value).items() if isinstance(value, dict) else ()
    return {name: n for name, n in items if type(n) is int and 0 <= n < 10**15}


def text_of(value: object) -> str:
    """A JSON value that should be text, as text."""
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()
