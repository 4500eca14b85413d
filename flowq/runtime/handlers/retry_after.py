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
    """A response of any HTTP client: httpx, aiohttp, requests."""

    @property
    def headers(self) -> _Headers: ...


def retry_after(response: Response | str | None, *, default: float = 5.0, longest: float = 86_400.0) -> float:
    """Seconds to wait according to an HTTP response, or to the value of its Retry-After header: 0 to `longest`.

    The header is a number of seconds or a date (RFC 9110, 10.2.3). A date without a zone is UTC. If there are several
    values, the longest wait counts. `default` is used if the header is missing or invalid.

    >>> retry_after("120"), retry_after(None), retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after("soon")
    (120.0, 5.0, 0.0, 5.0)
    """
    value = response if isinstance(response, str | None) else response.headers.get("Retry-After")
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
    # Clients join repeated headers with commas, and a date has a comma of its own, after the day of the week.
    waits = [seconds for part in _BETWEEN_VALUES.split(text) if (seconds := _seconds(part.strip())) is not None]
    return min(max(max(waits, default=default), 0.0), longest)


_BETWEEN_VALUES = re.compile(r"(?<![A-Za-z]),|(?<=GMT),")


def _seconds(text: str) -> float | None:
    """Seconds from now, negative for the past; None if the text is neither a number nor a date."""
    if text.replace(".", "", 1).isdecimal():  # the RFC allows whole seconds only, some servers send fractions
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # the asctime form and the zone -0000: HTTP has no local time
            date = date.replace(tzinfo=UTC)
        return date.timestamp() - time.time()
    except Exception:  # noqa: BLE001  (the parser of the standard library raises various errors)
        return None
