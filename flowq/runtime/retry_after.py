"""Reads the Retry-After header of HTTP, for `RetryLater(after=...)`."""

from __future__ import annotations

import time
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

    The header is a number of seconds or a date (RFC 9110, 10.2.3). `default` stands for one that is missing or is
    neither.

    >>> retry_after("120"), retry_after(None), retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after("soon")
    (120.0, 5.0, 0.0, 5.0)
    """
    value = response if isinstance(response, str | None) else response.headers.get("Retry-After")
    text = str(value).strip() if value is not None else ""
    try:
        seconds = float(text) if _is_number(text) else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        seconds = default
    return min(max(seconds, 0.0), longest)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()  # the RFC knows whole seconds only, some servers do not
