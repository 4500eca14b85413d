"""A network whose connections break in every way, at a moment that the test chooses, with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Break = Literal["fin", "reset", "half-close", "cut"]
BREAKS: tuple[Break, ...] = ("fin", "reset", "half-close", "cut")
_AT_ONCE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Pair:
    """One connection: the client's end and that of Redis."""

    client: asyncio.StreamWriter
    redis: asyncio.StreamWriter
    from_client: int = 0  # bytes

    def break_off(self, way: Break) -> None:
        """fin: the polite end, over TLS with close_notify. cut: over TLS the end of the stream without it."""
        match way:
            case "fin":
                self.client.close()
            case "half-close":
                self.client.write_eof()
            case "cut":
                self.client.transport.abort()
            case "reset":
                raw = self.client.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                self.client.transport.abort()
        self.redis.transport.abort()


@dataclass(eq=False)
class Relay:
    """Passes everything on to a Redis at a Unix socket. `url` is where clients connect, without options for TLS."""

    redis_url: str
    tls: ssl.SSLContext | None = None
    greets_with: Break | None = None  # for connections from now on
    cuts_replies_after: tuple[int, Break] | None = None  # bytes of the next reply, and what happens then
    accepted: int = 0
    _pairs: set[_Pair] = field(default_factory=set[_Pair])  # unbroken
    _ends: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def __aenter__(self) -> Self:
        self._reads_commands = asyncio.Event()
        self._reads_commands.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis{'s' if self.tls else ''}://localhost:{port}/0"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._reads_commands.set()
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*self._tasks, *(end.wait_closed() for end in self._ends), return_exceptions=True)

    def break_all(self, way: Break) -> None:
        """Break every connection that is open."""
        for pair in self._pairs:
            pair.break_off(way)
        self._pairs.clear()

    def stop_reading(self) -> None:
        """Take no more from clients, so that what they write fills all buffers on the way."""
        self._reads_commands.clear()

    def read_on(self) -> None:
        self._reads_commands.set()

    @property
    def bytes_from_clients(self) -> int:
        return sum(pair.from_client for pair in self._pairs)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        redis_reader, redis_writer = await asyncio.open_unix_connection(urlsplit(self.redis_url).path)
        self._ends += (writer, redis_writer)
        pair = _Pair(writer, redis_writer)
        if self.greets_with is not None:
            pair.break_off(self.greets_with)
            return
        self._pairs.add(pair)
        ways = self._commands(reader, pair), self._replies(redis_reader, pair)
        await asyncio.gather(*ways)
        self._pairs.discard(pair)

    async def _commands(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while data := await reader.read(65_536):
                pair.from_client += len(data)
                pair.redis.write(data)
                await self._reads_commands.wait()
        pair.redis.transport.abort()

    async def _replies(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while data := await reader.read(65_536):
                if self.cuts_replies_after is not None:
                    n_bytes, way = self.cuts_replies_after
                    self.cuts_replies_after = None
                    pair.client.write(data[:n_bytes])
                    await pair.client.drain()
                    pair.break_off(way)
                    self._pairs.discard(pair)
                    return
                pair.client.write(data)
                await pair.client.drain()
