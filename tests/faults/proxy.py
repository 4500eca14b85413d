"""A network that fails on demand: stands between a client and a Redis, on a unix socket or at a TCP port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

import hiredis

Way = Literal["commands", "replies"]
WAYS: tuple[Way, ...] = ("commands", "replies")
_AT_ONCE = struct.pack("ii", 1, 0)
_PIECES_PER_SECOND = 20
_NOTHING = (b"*-1\r\n", b"$-1\r\n", b"_\r\n")


@dataclass
class _Loss:
    """Replies that are still to be lost."""

    command: bytes
    containing: bytes
    times: int

    def concerns(self, command: list[bytes]) -> bool:
        return self.times > 0 and command[0].upper() == self.command and self.containing in b" ".join(command)


class Proxy:
    """Forwards everything until told otherwise. `url` is where clients connect.

    `dropped` counts the lost replies, `n_passed` the bytes forwarded in each direction.
    """

    def __init__(self, redis_url: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """`host` and `port`: where it listens; port 0 is a free one."""
        self._redis = urlsplit(redis_url)
        self._host, self.port = host, port
        self._losses: list[_Loss] = []
        self._passing = {way: asyncio.Event() for way in WAYS}
        self.resume()
        self._refusing = False
        self._delay_seconds = 0.0
        self._bytes_per_second = 0.0
        self._free_at = dict.fromkeys(WAYS, 0.0)
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0
        self.n_passed = dict.fromkeys(WAYS, 0)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://{self._host}:{self.port}/0"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.resume()
        self.kill_connections()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Faults

    def drop_reply(self, command: str, times: int = 1, *, containing: bytes = b"") -> None:
        """Lose the replies to the next `times` of a command, and the connection with them, after Redis has obeyed.

        Replies that say "nothing" do not count.
        """
        self._losses.append(_Loss(command.upper().encode(), containing, times))

    def stall(self, *ways: Way) -> None:
        """Pass nothing on, in these directions or both, until `resume`."""
        for way in ways or WAYS:
            self._passing[way].clear()

    def resume(self) -> None:
        for passing in self._passing.values():
            passing.set()

    def delay(self, seconds: float) -> None:
        """Have everything arrive so much later, in each direction."""
        self._delay_seconds = seconds

    def narrow(self, bytes_per_second: float) -> None:
        """Pass on no more than that in each direction, all connections together, in small pieces. 0: no limit."""
        self._bytes_per_second = bytes_per_second

    def refuse(self) -> None:
        """Close what is open and accept nothing until `accept`."""
        self._refusing = True
        self.kill_connections()

    def accept(self) -> None:
        self._refusing = False

    @property
    def n_connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections) // 2

    def kill_connections(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()

    def reset_connections(self) -> None:
        """End every connection by RST, as a NAT does that has forgotten it."""
        for writer in list(self._connections):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            writer.transport.abort()

    # Passing on

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        accepting = asyncio.current_task()
        assert accepting is not None
        self._tasks.add(accepting)
        accepting.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError):
            redis_reader, redis_writer = await self._dial()
            ends = {writer, redis_writer}
            self._connections |= ends
            connection = _Connection(self)
            ways = (connection.commands(reader, redis_writer), connection.replies(redis_reader, writer))
            tasks = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                for end in ends:
                    end.transport.abort()
                self._connections -= ends
            return
        writer.transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._redis.scheme == "unix":
            return await asyncio.open_unix_connection(self._redis.path)
        return await asyncio.open_connection(self._redis.hostname, self._redis.port)

    def is_lost(self, command: list[bytes]) -> _Loss | None:
        return next((loss for loss in self._losses if loss.concerns(command)), None)

    @property
    def piece_bytes(self) -> int:
        """How much is passed on at a time."""
        return max(1, int(self._bytes_per_second / _PIECES_PER_SECOND)) if self._bytes_per_second else 65_536

    async def passing(self, way: Way, n_bytes: int) -> None:
        await self._passing[way].wait()
        await asyncio.sleep(self._delay_seconds)
        if self._bytes_per_second:
            now = asyncio.get_running_loop().time()
            self._free_at[way] = max(now, self._free_at[way]) + n_bytes / self._bytes_per_second
            await asyncio.sleep(self._free_at[way] - now)
        self.n_passed[way] += n_bytes


class _Connection:
    """One client's two ways."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._loss: _Loss | None = None

    async def commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := await reader.read(self._proxy.piece_bytes):
                await self._proxy.passing("commands", len(data))
                parser.feed(data)
                while isinstance(command := parser.gets(), list):
                    self._loss = self._proxy.is_lost(command) or self._loss
                writer.write(data)
                await writer.drain()

    async def replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(self._proxy.piece_bytes):
                await self._proxy.passing("replies", len(data))
                loss, self._loss = self._loss, None
                if loss is not None and loss.times > 0 and data not in _NOTHING:
                    loss.times -= 1
                    self._proxy.dropped += 1
                    return
                writer.write(data)
                await writer.drain()
