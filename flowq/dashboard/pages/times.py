"""Times in a page: the text, and the moment that it stands for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from flowq.wording.moments import moment


class Time(NamedTuple):
    """A moment, as it is read and as ISO 8601."""

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
    """How long ago a moment was, roughly.

    >>> ago(0, 900), ago(0, 42_000), ago(0, 200_000), ago(0, 9_000_000), ago(0, 400_000_000)
    ('just now', '42 s ago', '3 min ago', '2 h ago', '5 days ago')
    """
    seconds = max(0, now_ms - at_ms) / 1000
    if seconds < 2:
        return "just now"
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days ago"
