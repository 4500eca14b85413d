"""Connections for looks from outside: they take no time, and no fault strikes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowq.testing.simulation.calls import parse_request
from flowq.testing.simulation.virtual_server import Server, ServerConnection


class DirectDialer:
    """Makes connections that answer at once."""

    is_private = True  # what is seen at one instant needs no confirmation

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = self.address = server.address

    async def dial(self) -> DirectConnection:
        """A new connection."""
        return DirectConnection(self._server.connect())


class DirectConnection:
    """One connection."""

    is_lost = False

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    def watch(self, on_progress: Callable[[], None]) -> None:
        pass

    async def ask(self, request: bytes, n_replies: int, *, timeout_seconds: float) -> list[Any]:
        return self._connection.exchange(parse_request(request, n_replies))

    async def close(self) -> None:
        self._connection.close()
