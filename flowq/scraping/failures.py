"""Why a page could not be fetched. Each failure is retried; dead letters show its name."""

from __future__ import annotations

import socket
import ssl

import httpx2


class FetchFailed(Exception):
    """A page could not be fetched; another attempt may succeed."""


class DnsFailed(FetchFailed):
    """The host name has no address."""


class TlsFailed(FetchFailed):
    """No secure connection: an invalid certificate, or no TLS on that port."""


class ConnectionFailed(FetchFailed):
    """Nothing listens at that address, or the connection broke."""


class TooSlow(FetchFailed):
    """The response did not arrive in time."""


class ServerFailed(FetchFailed):
    """The server reported an internal error (5xx)."""


class BrokenBody(FetchFailed):
    """A body that ends too early, or is not compressed as its header says."""


class BrowserCrashed(FetchFailed):
    """The browser, or the page in it, crashed."""


def failure_of(error: Exception) -> FetchFailed:
    """The failure that an error of the HTTP client means."""
    text = str(error) or type(error).__name__
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return TooSlow(text)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return DnsFailed(text)
        if isinstance(cause, ssl.SSLError):
            return TlsFailed(text)
        cause = cause.__cause__ or cause.__context__
    return BrokenBody(text) if isinstance(error, httpx2.RemoteProtocolError) else ConnectionFailed(text)
