"""Times in a page: the text, and the moment that it stands for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from flowq.wording.moments import moment
from flowq.wording.quantities import span_words


class Time(NamedTuple):
    """A moment: the text to show, and ISO 8601."""

    text: str
    iso: str


def time_at(at: datetime | int, now: datetime) -> Time:
    """A moment, or milliseconds since 1970, in the time zone of `now`.

    >>> time_at(1_795_900_695_916, datetime(2026, 11, 29, 15, 0, tzinfo=UTC)).text
    '2026-11-28 21:18'
    """
    moment_at = datetime.fromtimestamp(at / 1000, UTC) if isinstance(at, int) else at
    local = moment_at.astimezone(now.tzinfo)
    return Time(moment(local, now), local.isoformat(timespec="milliseconds"))


def ago(at_ms: int, now_ms: int) -> str:
    """How long ago a moment was.

    >>> ago(0, 900), ago(0, 42_000), ago(0, 200_000)
    ('just now', '42 s ago', '3 min ago')
    """
    seconds = max(0, now_ms - at_ms) / 1000
    return "just now" if seconds < 2 else f"{span_words(seconds)} ago"
