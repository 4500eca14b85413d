"""Why a page could not be fetched. Each is tried again; a dead letter tells them apart by name."""

from __future__ import annotations

import socket
import ssl

import httpx2


class FetchFailed(Exception):
    """A page could not be fetched this time."""


class DnsFailed(FetchFailed):
    """The name of the host has no address."""


class TlsFailed(FetchFailed):
    """No secure connection: a certificate that is not valid, or no TLS at that port."""


class ConnectionFailed(FetchFailed):
    """Nobody answers at that address, or the connection broke."""


class TooSlow(FetchFailed):
    """The answer did not come in time."""


class ServerFailed(FetchFailed):
    """The server had an error of its own (5xx)."""


class BrokenBody(FetchFailed):
    """A body that ends too early, or is not packed as its header says."""


class BrowserCrashed(FetchFailed):
    """The browser, or the page in it, is gone."""


def failure_of(error: Exception) -> FetchFailed:
    """What an error of the HTTP client means."""
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
