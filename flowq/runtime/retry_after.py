"""Reads the Retry-After header of HTTP, for `RetryLater(after=...)`."""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Protocol


class _Headers(Protocol):
    def get(self, name: str, /) -> Any: ...


class Response(Protocol):
    """An answer of any HTTP client: httpx, aiohttp, requests."""

    @property
    def headers(self) -> _Headers: ...


def retry_after(response: Response | str | None, *, default: float = 5.0, longest: float = 86_400.0) -> float:
    """Seconds that an HTTP answer, or the value of its Retry-After header, asks to wait: from 0 to `longest`.

    The header is a number of seconds or a date (RFC 9110, 10.2.3). A date without a zone is UTC. Of several values the
    longest wait counts. `default` stands for a header that is missing or is neither.

    >>> retry_after("120"), retry_after(None), retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after("soon")
    (120.0, 5.0, 0.0, 5.0)
    """
    value = response if isinstance(response, str | None) else response.headers.get("Retry-After")
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    # Clients join a header that came twice by commas, and a date has one of its own, after the day of the week.
    waits = [seconds for part in _BETWEEN_VALUES.split(text) if (seconds := _seconds(part.strip())) is not None]
    return min(max(max(waits, default=default), 0.0), longest)


_BETWEEN_VALUES = re.compile(r"(?<![A-Za-z]),|(?<=GMT),")


def _seconds(text: str) -> float | None:
    """Seconds from now, negative for what is past; None for what is neither a number nor a date."""
    if text.replace(".", "", 1).isdecimal():  # the RFC knows whole seconds only, some servers do not
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # the asctime form and the zone -0000: HTTP knows no local time
            date = date.replace(tzinfo=UTC)
        return date.timestamp() - time.time()
    except Exception:  # noqa: BLE001  (the parser of the standard library raises whatever it stumbles over)
        return None
