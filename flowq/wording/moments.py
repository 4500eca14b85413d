"""Moments as people read them, on the clock of this machine."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: datetime, now: datetime) -> str:
    """A time in the time zone of `now`, with the date when it was not today.

    >>> now = datetime(2026, 11, 29, 15, 0, tzinfo=UTC)
    >>> moment(datetime(2026, 11, 29, 14, 3, 9, tzinfo=UTC), now)
    '14:03:09'
    >>> moment(datetime(2026, 11, 28, 14, 3, 9, tzinfo=UTC), now)
    '2026-11-28 14:03'
    """
    local = at.astimezone(now.tzinfo)
    return local.strftime("%H:%M:%S" if local.date() == now.date() else "%Y-%m-%d %H:%M")


def moment_of(at_ms: int, now: datetime) -> str:
    """The same for milliseconds since 1970."""
    return moment(datetime.fromtimestamp(at_ms / 1000, UTC), now)
