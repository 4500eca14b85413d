"""Between one worker and the server: each of its calls passes here, and may be delayed, spoilt or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from flowq.testing.simulation.calls import Call, Command, call_of, parse_request, streams_of, without_block
from flowq.testing.simulation.network import Network


class Tap:
    """The dialer of one worker. Its calls are named, written into the trace, and answered by the server.

    `kill()` is the death of the worker as the server sees it: nothing of it arrives any more. Whatever it still tries
    ends with CancelledError, so that its tasks end soon.
    """

    is_private = False

    def __init__(self, network: Network, worker: str) -> None:
        self.network = network
        self.worker = worker
        self.is_dead = False
        self.url = self.address = network.server.address
        self.leases: dict[bytes, None] = {}
        self._connections: dict[TapConnection, None] = {}
        network.join(self)

    async def dial(self) -> TapConnection:
        """A new connection."""
        self.check_alive()
        connection = TapConnection(self)
        self._connections[connection] = None
        return connection

    def kill(self) -> None:
        """The worker is dead from now on. No leap of the clock before its leases have ended and others can know it."""
        self.is_dead = True
        self.network.wait_for_leases(self.leases)
        self.disconnect()

    def disconnect(self) -> None:
        """Cut all connections."""
        for connection in list(self._connections):
            connection.cut()

    def forget(self, connection: TapConnection) -> None:
        """A connection has been closed."""
        self._connections.pop(connection, None)

    def check_alive(self) -> None:
        """Raise CancelledError in a worker that is dead."""
        if self.is_dead:
            raise asyncio.CancelledError(f"{self.worker} is dead")


class TapConnection:
    """One connection of a worker. As on a real one, one call is under way at a time."""

    def __init__(self, tap: Tap) -> None:
        self.is_lost = False
        self._tap = tap
        self._network = tap.network
        self._client_id = tap.network.new_client_id()
        self._waiting: asyncio.Future[Any] | None = None

    def watch(self, on_progress: Callable[[], None]) -> None:
        """Progress of a call past its deadline does not exist here: replies arrive at once."""

    async def ask(self, request: bytes, n_replies: int, *, timeout_seconds: float) -> list[Any]:
        """Have the server run the commands of a request, after the time that it takes to arrive."""
        network = self._network
        self._check()
        call = call_of(self._tap.worker, parse_request(request, n_replies))
        if call.is_progress:
            network.loop.note_activity()
        if call.name == "read" and n_replies == 1:
            return [await self._read(call)]
        await self._sleep(network.delay_seconds())
        replies = self._answered(call)
        if network.reply_is_late():
            await self._sleep(network.delay_seconds())
        return replies

    async def _read(self, call: Call) -> Any:
        """Read; wait for entries as long as the command would block."""
        network, (command,) = self._network, call.commands
        bare, block_ms = without_block(command)
        streams, _ = streams_of(command)
        ends_at = network.loop.time() + (block_ms or 0) / 1000
        while True:
            await self._sleep(network.delay_seconds())
            (reply,) = self._run(call, [bare])
            left_seconds = ends_at - network.loop.time()
            if reply or block_ms is None or left_seconds <= 0:
                self._note_read(call, reply)
                return reply
            if not await network.wait_for_entries(self._client_id, streams, left_seconds):
                return None
            self._check()

    async def _sleep(self, seconds: float) -> None:
        await self._network.loop.background_sleep(seconds)
        self._check()

    def _answered(self, call: Call) -> list[Any]:
        if all(command[0] not in _ANSWERED_HERE for command in call.commands):
            replies = self._run(call, call.commands)
        else:
            replies = [self._answer(call, command) for command in call.commands]
        self._note(call)
        return replies

    def _answer(self, call: Call, command: Command) -> Any:
        if command[0] == b"WAIT":
            return 1  # there is a replica, and it has everything
        if command[0] == b"CLIENT" and command[1] == b"ID":
            return self._client_id
        if command[0] == b"CLIENT" and command[1] == b"UNBLOCK":
            return int(self._network.unblock(int(command[2])))
        return self._run(call, [command])[0]

    def _run(self, call: Call, commands: list[Command]) -> list[Any]:
        return self._network.run(call, commands)

    def _note(self, call: Call) -> None:
        if call.name == "renew":
            self._tap.leases[call.commands[0][4]] = None
        messages, detail = self._network.messages.in_settlement(call) if call.name == "settle" else ((), "")
        self._network.note(call.worker, call.name, call.stage, messages, detail)

    def _note_read(self, call: Call, reply: Any) -> None:
        if not reply or isinstance(reply, ResponseError):
            return
        self._network.loop.note_activity()
        self._network.note(call.worker, "read", call.stage, self._network.messages.in_read(reply))

    def cut(self) -> None:
        """The connection breaks. A call under way fails, a later one as well."""
        self.is_lost = True
        self._network.unblock(self._client_id)

    def _check(self) -> None:
        self._tap.check_alive()
        if self.is_lost:
            raise ConnectionResetError("Redis has closed the connection")

    async def close(self) -> None:
        """Close it."""
        self.is_lost = True
        self._tap.forget(self)


_ANSWERED_HERE = frozenset((b"CLIENT", b"WAIT"))
