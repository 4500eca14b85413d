"""Examines every server that holds shards of a pipeline: what each tells about itself, and what shards have counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.client.topology import ClusterDialer
from flowq.broker.inspection.health import Health, ServerHealth, info_fields
from flowq.broker.records import OK, before_move, counted, counters_in
from flowq.broker.redis_streams import Broker
from flowq.errors import BrokerError, BrokerUnavailable

T = TypeVar("T")

_CONFIRMS_WITHIN_MS = 1000
_PROBE_MS = 10_000
_SETTINGS = ("repl-timeout", "cluster-require-full-coverage")


@dataclass(frozen=True, slots=True)
class Primary:
    """One server, and the shards on it.

    `confirms`: whether a replica has confirmed a write within a second; None if none is attached, or WAIT is forbidden.
    `replica_timeout_seconds` is after how long Redis gives up a replica that hangs, `needs_all_slots` whether a Cluster
    refuses everything while one slot is not served; both None if unknown.
    """

    address: str
    shards: Sequence[int]
    health: Health
    confirms: bool | None = None
    replica_timeout_seconds: int | None = None
    needs_all_slots: bool | None = None


@dataclass(frozen=True, slots=True)
class Primaries:
    """What was found.

    `silent` are the shards that did not answer, and why. `ok` and `lost` are messages of each shard, in this run.
    """

    found: Sequence[Primary]
    silent: Mapping[int, str] = field(default_factory=dict[int, str])
    ok: Mapping[int, int] = field(default_factory=dict[int, int])
    lost: Mapping[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True, slots=True)
class _Shard:
    broker: Broker
    server: str
    counters: Mapping[str, int]


async def examine_primaries(broker: Broker) -> Primaries:
    """Ask the server of each shard. Where one does not answer, its shards are `silent`."""
    answers = await asyncio.gather(*(_if_reached(_of_shard(each)) for each in broker.shards))
    silent = {number: answer for number, answer in enumerate(answers) if isinstance(answer, str)}
    shards = [answer for answer in answers if not isinstance(answer, str)]
    on_server: dict[str, list[_Shard]] = {}
    for shard in shards:
        on_server.setdefault(shard.server or shard.broker.dialer.address, []).append(shard)
    examined = await asyncio.gather(*(_if_reached(_examined(on_it)) for on_it in on_server.values()))
    for on_it, answer in zip(on_server.values(), examined, strict=True):
        if isinstance(answer, str):
            silent |= {shard.broker.shard: answer for shard in on_it}
    return Primaries(
        [answer for answer in examined if not isinstance(answer, str)],
        silent,
        ok={shard.broker.shard: _since_move(shard.counters) for shard in shards},
        lost={shard.broker.shard: n for shard in shards if (n := counted(shard.counters, "lost"))},
    )


async def _if_reached(asking: Awaitable[T]) -> T | str:
    """What it answers, or why it does not."""
    try:
        return await asking
    except BrokerError as error:
        why = error.detail or error.message
        return f"{error.server}: {why}" if isinstance(error, BrokerUnavailable) and error.server else why


def _since_move(counters: Mapping[str, int]) -> int:
    """Messages handled since shards were last moved: what came before says nothing about the present ones."""
    return counted(counters, OK) - counters.get(before_move(OK), 0)


async def _of_shard(broker: Broker) -> _Shard:
    told, stats = await broker.ask([(b"INFO", b"server"), (b"HGETALL", broker.keys.stats)])
    server = info_fields(told).get("run_id", "")
    return _Shard(broker, server, {} if isinstance(stats, Exception) else counters_in(stats))


async def _examined(on_it: Sequence[_Shard]) -> Primary:
    broker = on_it[0].broker
    health = await ServerHealth(broker).examine()
    commands: list[tuple[Any, ...]] = [(b"CONFIG", b"GET", name) for name in _SETTINGS]
    if health.replicas:  # WAIT waits for what its own connection has written
        commands.append((b"SET", broker.keys.probe, b"", b"PX", _PROBE_MS))
        commands.append((b"WAIT", 1, _CONFIRMS_WITHIN_MS))
    link = broker.link()
    try:
        timeout, coverage, *confirmed = await link.replies_to(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
        address = await _address(broker)
    finally:
        await link.close()
    seconds = _value(timeout)
    return Primary(
        address,
        [each.broker.shard for each in on_it],
        health,
        confirms=confirmed[-1] > 0 if confirmed and isinstance(confirmed[-1], int) else None,
        replica_timeout_seconds=int(seconds) if seconds.isdecimal() else None,
        needs_all_slots=_value(coverage) == "yes" if health.topology == "cluster" and _value(coverage) else None,
    )


async def _address(broker: Broker) -> str:
    """In a Cluster, the node; else what the URL says."""
    dialer = broker.dialer
    return await dialer.primary_address() if isinstance(dialer, ClusterDialer) else dialer.address


def _value(reply: Any) -> str:
    """The value of one setting, "" where it is unknown."""
    if isinstance(reply, Exception) or not reply:
        return ""
    value: bytes = reply[1]
    return value.decode()
