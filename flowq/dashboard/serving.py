"""Serves the web page over HTTP until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator

import uvicorn
from starlette.applications import Starlette

from flowq.errors import UsageError
from flowq.monitoring.address import Address

_GRACE_SECONDS = 5


class _Server(uvicorn.Server):
    """Leaves signals alone: the command has a rule for them, and exit codes."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def bound(address: Address, *, flag: str) -> socket.socket:
    """A socket that listens there. Raises UsageError with a remedy if that is not possible."""
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "is taken" if taken else f"cannot be bound: {error.strerror or error}"
        hint = f"another process uses it; choose another:  {flag} :{address.port + 1}" if taken else f"{flag} :8080"
        raise UsageError(f"{flag} {address.host}:{address.port} {why}", hint=hint) from None


async def serve(app: Starlette, listening: socket.socket, stop: asyncio.Event) -> None:
    """Answer until `stop` is set; open streams are told, and the watches stop."""
    config = uvicorn.Config(
        app,
        access_log=False,  # an address may hold a token
        log_config=None,
        lifespan="on",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve([listening]))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await app.state.site.close()
    await serving
    stopping.cancel()
