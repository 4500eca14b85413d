"""A Redis inside this process, by fakeredis: for a look without a server, and for fast tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from flowq.errors import UsageError


class MemoryDialer:
    """Connections to a fake server that lives as long as this object. Runs the same scripts as a real one."""

    url = address = "memory"
    is_private = True

    def __init__(self) -> None:
        try:
            from fakeredis import FakeServer
            from fakeredis.aioredis import FakeAsyncRedisConnection
        except ImportError:
            raise UsageError("running in memory needs fakeredis", hint="pip install 'flowq-streams[test]'") from None
        self._make: Any = FakeAsyncRedisConnection
        self._server = FakeServer(version=(7, 4))

    async def dial(self) -> MemoryConnection:
        """A new connection to the fake server."""
        # With a timeout of its own it would use wait_for(), which swallows cancellations until Python 3.12.
        fake = self._make(server=self._server, db=0, protocol=2, socket_timeout=None)
        await fake.connect()
        return MemoryConnection(fake)


class MemoryConnection:
    """A connection of fakeredis, as a link needs it. Only replies count as progress, and it is never lost."""

    is_lost = False

    def __init__(self, fake: Any) -> None:
        self._fake = fake

    def watch(self, on_progress: Callable[[], None]) -> None:
        pass

    async def ask(self, request: bytes, n_replies: int, *, timeout_seconds: float) -> list[Any]:
        async with asyncio.timeout(timeout_seconds):
            await self._fake.send_packed_command(request, check_health=False)
            await asyncio.sleep(0)  # replies are there at once: a caller that never waits would keep all others waiting
            return [await self._reply() for _ in range(n_replies)]

    async def _reply(self) -> Any:
        try:
            return await self._fake.read_response(disconnect_on_error=False)
        except ResponseError as error:
            return error

    async def close(self) -> None:
        await self._fake.disconnect(nowait=True)
