"""Between one worker and the server: each of its calls passes here, and may be delayed, spoilt or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from flowq.testing.faults import (
    Crash,
    Disconnect,
    Duplicate,
    Failover,
    Fault,
    Refuse,
    Reorder,
    Restart,
    Slow,
    Stall,
)
from flowq.testing.simulation.calls import Command, RedisCall, call_of, parse_request, streams_of, without_block
from flowq.testing.simulation.network import Network
from flowq.testing.simulation.replicated_node import Node

_ANSWERED_HERE = frozenset((b"CLIENT", b"INFO", b"WAIT", b"WAITAOF"))


def _nothing() -> None:
    """What follows from a crash or a restart by default."""


class Tap:
    """The dialer of one worker. Its calls are named, written into the trace, and answered by the server.

    `on_crash` is called when the worker has died by a fault, and has to end its tasks; `on_restart` when it has to stop
    as on SIGTERM and to start again. `is_faulty`: whether faults happen to this one, and those of the server
    concern it: a test feeds a pipeline whatever state the server is in.
    """

    is_private = False

    def __init__(
        self,
        network: Network,
        worker: str,
        *,
        on_crash: Callable[[], None] = _nothing,
        on_restart: Callable[[], None] = _nothing,
        is_faulty: bool = True,
    ) -> None:
        self.network = network
        self.worker = worker
        self.on_restart = on_restart
        self.is_faulty = is_faulty
        self.is_dead = False
        self.url = self.address = network.nodes[0].server.address
        self.leases: dict[bytes, int] = {}
        self._on_crash = on_crash
        self._connections: dict[TapConnection, None] = {}
        self._ways = {node: WayTo(self, node) for node in network.nodes[1:]}
        network.join(self)

    async def dial(self) -> TapConnection:
        """A new connection to the first server."""
        return self.connect(self.network.nodes[0])

    def to(self, shard: int) -> Tap | WayTo:
        """What dials the server that a shard is on. It is the same for all shards on that server."""
        return self._ways.get(self.network.node_of(shard), self)

    def connect(self, node: Node) -> TapConnection:
        """A new connection to a server."""
        self.check_alive()
        connection = TapConnection(self, node)
        self._connections[connection] = None
        return connection

    def kill(self) -> None:
        """The worker is dead from now on: nothing of it arrives any more.

        Whatever it still tries ends with CancelledError, so that its tasks end soon. The clock stops
        where its leases end, and where others look for it.
        """
        if not self.is_dead:
            self.is_dead = True
            self.network.await_ends_of(self.leases)
            self.disconnect()

    def crash(self, fault: Fault) -> None:
        """Die by a fault."""
        self.network.note(self.worker, "crash", getattr(fault, "stage", ""), detail=str(fault))
        self.kill()
        self._on_crash()

    def disconnect(self, node: Node | None = None) -> None:
        """Cut all connections, or those to one server."""
        for connection in list(self._connections):
            if node is None or connection.node is node:
                connection.cut()

    def forget(self, connection: TapConnection) -> None:
        """A connection has been closed."""
        self._connections.pop(connection, None)

    def check_alive(self) -> None:
        """Raise CancelledError in a worker that is dead."""
        if self.is_dead:
            raise asyncio.CancelledError(f"{self.worker} is dead")

    async def before_handler(self, stage: str) -> None:
        """What faults do before the function of a stage is called. Raises CancelledError in a worker that dies."""
        for fault in self.network.injector.before_handler(stage):
            if isinstance(fault, Slow):
                self.network.note(self.worker, "fault", stage, detail=str(fault))
                await asyncio.sleep(fault.seconds)
            else:
                self.crash(fault)
        self.check_alive()

    def after_handler(self, stage: str) -> None:
        """What faults do when it has returned. Raises CancelledError in a worker that dies."""
        for fault in self.network.injector.after_handler(stage):
            self.crash(fault)
        self.check_alive()


class WayTo:
    """The dialer of one worker for a server beside the first."""

    is_private = False

    def __init__(self, tap: Tap, node: Node) -> None:
        self.url = self.address = node.server.address
        self._tap = tap
        self._node = node

    async def dial(self) -> TapConnection:
        """A new connection."""
        return self._tap.connect(self._node)


class TapConnection:
    """One connection of a worker. As on a real one, one call is under way at a time."""

    def __init__(self, tap: Tap, node: Node) -> None:
        self.is_lost = False
        self.node = node
        self._tap = tap
        self._network = tap.network
        self._client_id = tap.network.new_client_id()

    def watch(self, on_progress: Callable[[], None]) -> None:
        """Progress of a call past its deadline does not exist here: replies arrive at once."""

    async def ask(self, request: bytes, n_replies: int, *, timeout_seconds: float) -> list[Any]:
        """Have the server run the commands of a request, after the time that it takes to arrive."""
        network = self._network
        self._check()
        call = call_of(self._tap.worker, parse_request(request, n_replies))
        if call.is_progress:
            network.loop.note_activity()
        delay_seconds = self._strike_before(call)
        if call.name == "read" and n_replies == 1:
            return [await self._read(call, delay_seconds, timeout_seconds)]
        await self._arrive(call, call.commands, delay_seconds, timeout_seconds)
        replies = await self._answered(call)
        self._note(call)
        await self._return(call, 0)
        return replies

    async def _read(self, call: RedisCall, delay_seconds: float, timeout_seconds: float) -> Any:
        """Read; wait for entries as long as the command would block."""
        network, (command,) = self._network, call.commands
        bare, block_ms = without_block(command)
        streams, _ = streams_of(command)
        ends_at = network.loop.time() + (block_ms or 0) / 1000
        while True:
            await self._arrive(call, [bare], delay_seconds, timeout_seconds)
            (reply,) = self._run(call, [bare])
            left_seconds = ends_at - network.loop.time()
            if reply or block_ms is None or left_seconds <= 0:
                break
            is_over = not await network.wait_for_entries(self._client_id, streams, left_seconds)
            self._check()
            if is_over:
                return None
            delay_seconds = network.delay_seconds(call)
        if not reply or isinstance(reply, Exception):
            return reply
        network.loop.note_activity()
        n_messages = sum(len(entries) for _, entries in reply)
        n_fired = len(network.injector.fired)
        reply = _poisoned(reply, self._strikes(network.injector.poisons, call, n_messages))
        for fault in network.injector.fired[n_fired:]:
            self._note_fault(call, fault)
        network.note(call.worker, "read", call.stage, network.messages.in_read(reply))
        await self._return(call, n_messages)
        return reply

    async def _arrive(
        self, call: RedisCall, commands: list[Command], delay_seconds: float, timeout_seconds: float
    ) -> None:
        """Wait until the server has the request and looks at it. Raises TimeoutError if that takes too long."""
        await self._sleep(delay_seconds)
        while self._tap.is_faulty and (stall_seconds := self.node.stall_seconds) > 0:
            if stall_seconds > timeout_seconds:
                self._run_later(stall_seconds, call, commands)  # it is in the server's buffers
                await self._sleep(timeout_seconds)
                raise TimeoutError
            await self._sleep(stall_seconds)

    async def _return(self, call: RedisCall, n_messages: int) -> None:
        """The way of the reply, on which it may be lost."""
        network = self._network
        for fault in self._strikes(network.injector.after_call, call, n_messages):
            match fault:
                case Crash():
                    self._tap.crash(fault)
                case Duplicate():
                    self._note_fault(call, fault)
                    self._run_later(network.delay_seconds(call), call, call.commands)
                case _:
                    self._note_fault(call, fault)
                    self.cut()
        self._check()
        if network.reply_is_late():
            await self._sleep(network.delay_seconds(call))

    def _strike_before(self, call: RedisCall) -> float:
        """What faults do to a call that is sent. Returns how long the request takes."""
        network, delay_seconds = self._network, self._network.delay_seconds(call)
        for fault in self._strikes(network.injector.before_call, call):
            if isinstance(fault, Crash):
                self._tap.crash(fault)
                continue
            self._note_fault(call, fault)
            match fault:
                case Reorder():
                    delay_seconds += network.detour_seconds()
                case Disconnect():
                    self._tap.disconnect(self.node)
                case Stall(seconds=seconds):
                    self.node.stall(seconds)
                case Refuse(error=error, seconds=seconds):
                    self.node.refuse(error, seconds)
                case Failover(forget=forget):
                    network.fail_over(self.node, forget)
                case Restart():
                    self._tap.on_restart()
                case _:
                    raise AssertionError(fault)
        self._check()
        return delay_seconds

    def _strikes(self, due: Callable[..., Sequence[Any]], *arguments: Any) -> Sequence[Any]:
        return due(*arguments) if self._tap.is_faulty else ()

    def _note_fault(self, call: RedisCall, fault: Fault) -> None:
        self._network.note(call.worker, "fault", call.stage, detail=str(fault))

    async def _sleep(self, seconds: float) -> None:
        await self._network.loop.call_sleep(seconds)
        self._check()

    async def _answered(self, call: RedisCall) -> list[Any]:
        if all(command[0] not in _ANSWERED_HERE for command in call.commands):
            return self._run(call, call.commands)
        return [await self._answer(call, command) for command in call.commands]

    def _run(self, call: RedisCall, commands: list[Command]) -> list[Any]:
        replies = self._network.run(self.node, call, commands, may_be_refused=self._tap.is_faulty)
        if self._network.is_sharded and not self._tap.is_faulty:  # what a test feeds is not forgotten
            self.node.confirm(self.node.position)
        return replies

    def _run_later(self, seconds: float, call: RedisCall, commands: list[Command]) -> None:
        """Run it when its connection may have ended, unless another server has taken the place of this one."""
        n_failovers = self.node.n_failovers

        def run() -> None:
            if self.node.n_failovers == n_failovers:
                self._run(call, commands)

        self._network.loop.call_later(seconds, run)

    async def _answer(self, call: RedisCall, command: Command) -> Any:
        if command[0] in (b"WAIT", b"WAITAOF"):
            n = int(await self._is_confirmed(int(command[-1]) / 1000))
            return n if command[0] == b"WAIT" else [n, n]
        if command[0] == b"INFO":
            return self.node.info()
        if command[0] == b"CLIENT" and command[1] == b"ID":
            return self._client_id
        if command[0] == b"CLIENT" and command[1] == b"UNBLOCK":
            return int(self._network.unblock(int(command[2])))
        return self._run(call, [command])[0]

    async def _is_confirmed(self, seconds: float) -> bool:
        """Wait until the replica has what is written by now. False if that takes longer."""
        position, behind_seconds = self.node.position, self.node.seconds_behind()
        if behind_seconds:
            await self._sleep(min(seconds, behind_seconds))
        if behind_seconds > seconds:
            return False
        self.node.confirm(position)
        return True

    def _note(self, call: RedisCall) -> None:
        if call.name == "renew":
            _, lease, _, lease_ms = call.commands[0][3:7]
            self._tap.leases[lease] = int(lease_ms)
        messages, detail = self._network.messages.in_settlement(call) if call.name == "settle" else ((), "")
        self._network.note(call.worker, call.name, call.stage, messages, detail)

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


def _poisoned(reply: Any, positions: Sequence[int]) -> Any:
    """The reply to a read in which some messages have another body."""
    if not positions:
        return reply
    n = 0
    copy: list[Any] = []
    for stream, entries in reply:
        copy.append([stream, [_poison(entry) if n + e in positions else entry for e, entry in enumerate(entries)]])
        n += len(entries)
    return copy


def _poison(entry: Any) -> Any:
    entry_id, fields = entry
    return [entry_id, [b"\xff" if f % 2 and fields[f - 1] == b"b" else word for f, word in enumerate(fields)]]
