"""A Redis inside this process, by fakeredis: for a look without a server, and for fast tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowq.broker.client.connection import connected
from flowq.errors import UsageError

if TYPE_CHECKING:
    from redis.asyncio.connection import Connection


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

    async def dial(self) -> Connection:
        """A new connection to the fake server."""
        return await connected(self._make(server=self._server, db=0, protocol=2))
