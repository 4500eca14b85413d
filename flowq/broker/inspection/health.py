"""Examines a Redis: what it is, how it keeps its data, how fast it answers, and what it permits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowq.broker.client.redis_errors import is_denied
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.client.topology import ClusterDialer
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import VIEW_PATIENCE_SECONDS, OnSilent, ask_every_shard
from flowq.errors import BrokerRefused

_PINGS = 100
_LONGEST_PINGING_SECONDS = 2.0
SIZE_LIMITS = ("client-output-buffer-limit", "proto-max-bulk-len", "client-query-buffer-limit")
_SETTINGS = (
    *("appendfsync", "aof-load-truncated", "save", "maxmemory-policy", "min-replicas-to-write", "min-replicas-max-lag"),
    *SIZE_LIMITS,
)

_DISPENSABLE = ("SISMEMBER", "SPOP", "UNLINK", "WAITAOF", "XREVRANGE")
_WITH_SUBCOMMANDS = ("CLIENT", "CLUSTER", "MEMORY", "XGROUP", "XINFO")

# Every command that flowq sends or its scripts call, once, on keys of its own.
_PROBES = """\
EVAL return 0
EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
CLIENT ID
CLIENT UNBLOCK 0
PING
SCAN 0 COUNT 1
WAIT 0 1
TIME
TYPE {string}
SET {string} 1 PX 1000
PEXPIRE {string} 1000
PTTL {string}
GET {string}
MGET {string}
HSET {hash} f 1
HSETNX {hash} f v
HGET {hash} f
HMGET {hash} f
HSCAN {hash} 0
HGETALL {hash}
HKEYS {hash}
HVALS {hash}
HLEN {hash}
HEXISTS {hash} f
HINCRBY {hash} f 1
HDEL {hash} f
SADD {set} m
SISMEMBER {set} m
SPOP {set} 1
UNLINK {set}
EXISTS {set}
SUNIONSTORE {set} {set}
RENAME {set} {set}
RENAMENX {set} {set}
ZADD {zset} 1 m
ZINCRBY {zset} 1 m
ZUNIONSTORE {zset} 1 {zset}
ZSCORE {zset} m
ZCARD {zset}
ZCOUNT {zset} 0 1
ZREMRANGEBYRANK {zset} 0 -1
ZLEXCOUNT {zset} - +
ZRANGEBYLEX {zset} - +
ZRANGE {zset} 0 0
ZRANGEBYSCORE {zset} 0 1
ZREM {zset} m
ZREMRANGEBYSCORE {zset} 0 1
XGROUP CREATE {stream} g 0 MKSTREAM
XGROUP DELCONSUMER {stream} g none
XADD {stream} 1-1 f v
XLEN {stream}
XRANGE {stream} - +
XREVRANGE {stream} + - COUNT 1
XREADGROUP GROUP g c COUNT 1 STREAMS {stream} >
XPENDING {stream} g
XCLAIM {stream} g c 0 1-1
XINFO CONSUMERS {stream} g
MEMORY USAGE {stream}
XINFO GROUPS {stream}
XINFO STREAM {stream}
XTRIM {stream} MAXLEN 9
XACK {stream} g 1-1
XDEL {stream} 1-1
DEL {string} {hash} {set} {zset} {stream}
""".splitlines()

# What a pipeline with several shards needs as well, also to change their number, and one in a Cluster.
_PROBES_OF_SHARDS = "INFO replication", "WAITAOF 0 0 1", "ZSCAN {zset} 0"
_PROBES_OF_CLUSTER = (["CLUSTER", "SLOTS"],)


@dataclass(frozen=True, slots=True)
class Health:
    """The state of one Redis. None where it is unknown: CONFIG and INFO may be forbidden.

    `topology` is "single", "sentinel" or "cluster". `fsync` is "always", "everysec" or "no", `snapshots` the rule by
    which snapshots are taken, "" for never. `loads_truncated_log`: whether it starts with a log whose end is missing.
    `clock_ahead_seconds` compares its clock with the one of this machine. `size_limits` are the bytes above which it
    closes connections, by setting, where there is such a limit.
    """

    product: str
    version: tuple[int, ...]
    topology: str
    is_primary: bool
    replicas: int
    append_only: bool | None
    fsync: str | None
    loads_truncated_log: bool | None
    snapshots: str | None
    write_failures: tuple[str, ...]
    eviction: str | None
    memory_bytes: int
    memory_limit_bytes: int
    min_replicas: int | None
    min_replicas_lag_seconds: int | None
    clock_ahead_seconds: float
    size_limits: Mapping[str, int]

    @classmethod
    def of(cls, info: Mapping[str, str], config: Mapping[str, str], *, topology: str, ahead_seconds: float) -> Health:
        """From the replies to INFO and CONFIG."""
        version = info.get("redis_version", "")
        product = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}".rstrip()
        lag = config.get("min-replicas-max-lag")
        failures = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        return cls(
            product=product,
            version=tuple(int(part) for part in version.split(".") if part.isdecimal()),
            topology="cluster" if info.get("redis_mode") == "cluster" else topology,
            is_primary=info.get("role", "master") == "master",
            replicas=sum(key.startswith("slave") and "state=online" in text for key, text in info.items()),
            append_only=info["aof_enabled"] == "1" if "aof_enabled" in info else None,
            fsync=config.get("appendfsync"),
            loads_truncated_log=config["aof-load-truncated"] == "yes" if "aof-load-truncated" in config else None,
            snapshots=config.get("save"),
            write_failures=tuple(name for name in failures if info.get(name, "ok") != "ok"),
            eviction=info.get("maxmemory_policy", config.get("maxmemory-policy")),
            memory_bytes=int(info.get("used_memory", 0)),
            memory_limit_bytes=int(info.get("maxmemory", 0)),
            min_replicas=int(config["min-replicas-to-write"]) if "min-replicas-to-write" in config else None,
            min_replicas_lag_seconds=None if lag is None else int(lag),
            clock_ahead_seconds=ahead_seconds,
            size_limits={name: limit for name in SIZE_LIMITS if (limit := _size_limit(config.get(name, "")))},
        )


def _size_limit(text: str) -> int:
    """The smallest number of bytes in a setting that is not 0; of several classes of clients, for normal ones."""
    words = text.partition("normal ")[2].split()[:2] or text.split()
    return min((int(word) for word in words if word.isdecimal() and int(word)), default=0)


class ServerHealth:
    """Examines the Redis of a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def examine(self) -> Health:
        """Ask Redis about itself. Raises BrokerUnavailable."""
        link = self._broker.link()
        try:
            commands = [(b"INFO",), *((b"CONFIG", b"GET", name) for name in _SETTINGS)]
            info, *settings = await link.replies_to(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
            asked_at = time.time()
            told = await link.call(b"TIME", timeout_seconds=CALL_TIMEOUT_SECONDS)
            try:
                seconds, microseconds = map(int, () if isinstance(told, bytes) else told)
            except (TypeError, ValueError):
                raise await link.misled(f"TIME was answered with {str(told)[:60]!r}") from None
            here = (asked_at + time.time()) / 2
        finally:
            await link.close()
        config: dict[str, str] = {}
        for name, reply in zip(_SETTINGS, settings, strict=True):
            if not isinstance(reply, Exception | int | bytes) and reply:
                config[name] = reply[1].decode()
        ahead_seconds = seconds + microseconds / 1e6 - here
        topology = "sentinel" if "+sentinel:" in self._broker.dialer.url else "single"
        return Health.of(info_fields(info), config, topology=topology, ahead_seconds=ahead_seconds)

    async def latency_seconds(self) -> float:
        """The time until Redis answers: the median of a hundred calls, or of fewer slow ones."""
        link, took = self._broker.link(), list[float]()
        try:
            await link.call(b"PING", timeout_seconds=CALL_TIMEOUT_SECONDS)
            began_at = time.perf_counter()
            while len(took) < _PINGS and time.perf_counter() - began_at < _LONGEST_PINGING_SECONDS:
                asked_at = time.perf_counter()
                await link.call(b"PING", timeout_seconds=CALL_TIMEOUT_SECONDS)
                took.append(time.perf_counter() - asked_at)
        finally:
            await link.close()
        return statistics.median(took)

    async def forbidden(self, *, on_silent: OnSilent | None = None) -> Forbidden:
        """What flowq needs on the keys of this pipeline, in all its shards, and primaries do not permit this user.

        Raises BrokerUnavailable if a shard does not answer. With `on_silent`, that one is passed over.
        """
        shards = self._broker.shards
        # Shards on one server share its dialer, except in a Cluster.
        first_on = {each.dialer: each for each in reversed(shards)}

        async def look(shard: Broker) -> Forbidden:
            return await _forbidden_in(shard, first_on[shard.dialer] is shard)

        patience_seconds = VIEW_PATIENCE_SECONDS if on_silent else None
        answers = await ask_every_shard(self._broker, look, patience_seconds=patience_seconds)
        found = answers.known(on_silent).values()
        names = {name for each in found for name in each.commands}
        at = next((each.at for each in found if each), "")
        return Forbidden(tuple(sorted(names)), any(each.keys for each in found), at)

    async def refuse_without_permission(self) -> None:
        """Raise BrokerRefused if this user may not call everything that a run needs. Raises as `forbidden` does."""
        forbidden = (await self.forbidden()).to_run()
        if forbidden:
            what = (
                f"call {', '.join(forbidden.commands)}"
                if forbidden.commands
                else f"use the keys {acl_pattern(self._broker)}"
            )
            raise BrokerRefused(
                f"Redis at {forbidden.at} does not permit this user to {what}",
                hint=acl_hint(forbidden, acl_pattern(self._broker)),
            )


async def _forbidden_in(broker: Broker, has_news: bool) -> Forbidden:
    """What is forbidden in one shard. `has_news`: on a server that was not asked for another shard, by all commands."""
    key, link = broker.keys.scratch, broker.link()
    commands = probes(key)
    if not has_news:
        commands = [command for command in commands if command[0] in ("SET", "GET", "DEL")]
    else:
        commands += probes(key, _PROBES_OF_SHARDS) if len(broker.shards) > 1 else ()
        commands += _PROBES_OF_CLUSTER if isinstance(broker.dialer, ClusterDialer) else ()
    try:
        replies = await link.replies_to(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
    finally:
        await link.close()
    refused = [(command, str(reply)) for command, reply in zip(commands, replies, strict=True) if is_denied(reply)]
    # Redis checks the command first: an error about a key means that the command is allowed.
    for_keys = [words for words in refused if "a key" in words[1] or "the keys" in words[1]]
    names = {_name_of(command) for command, said in refused if (command, said) not in for_keys}
    return Forbidden(tuple(sorted(names)), bool(for_keys), broker.dialer.address)


def info_fields(info: Any) -> dict[str, str]:
    """What INFO says, by name; nothing if it is forbidden."""
    if not isinstance(info, bytes):  # not allowed to ask
        return {}
    lines = info.decode("utf-8", "replace").splitlines()
    return {key: text for key, _, text in (line.partition(":") for line in lines) if text}


@dataclass(frozen=True, slots=True)
class Forbidden:
    """What a user of Redis, `at` an address, may not do: call some commands, or use the keys of a pipeline at all."""

    commands: tuple[str, ...] = ()
    keys: bool = False
    at: str = ""

    def __bool__(self) -> bool:
        return bool(self.commands) or self.keys

    def to_run(self) -> Forbidden:
        """The part of it without which no worker can run. A user who has the rules of an earlier version still can."""
        return replace(self, commands=tuple(name for name in self.commands if name not in _DISPENSABLE))


def acl_pattern(broker: Broker) -> str:
    """The keys of a pipeline, of all its shards, as ACLs name them."""
    return broker.keys.all if len(broker.shards) == 1 else broker.keys.of_all_shards


def acl_hint(forbidden: Forbidden, keys: str) -> str:
    """The command that permits what is missing. `keys` is a pattern."""
    return " ".join(["ACL SETUSER NAME", f"~{keys}", *map(_rule, forbidden.commands)])


def whole_acl(keys: str) -> str:
    """The rules for a user who may do what flowq needs on some keys, a pattern, and nothing else.

    Without WAITAOF, a name that Redis knows since 7.2 and refuses in a rule before.
    """
    names = {_name_of(command) for command in (*probes(""), *_PROBES_OF_CLUSTER)} | {"INFO", "SELECT", "ZSCAN"}
    return " ".join([f"~{keys}", "-@all", *map(_rule, sorted(names))])


def _rule(name: str) -> str:
    return f"+{name.lower().replace(' ', '|')}"


def _name_of(command: Sequence[str]) -> str:
    return " ".join(command[: 2 if command[0] in _WITH_SUBCOMMANDS else 1])


def probes(key: str, lines: Sequence[str] = _PROBES) -> list[list[str]]:
    """One call of each command that flowq needs, harmless and on keys that begin with `key`."""
    keys = {kind: f"{key}:{kind}" for kind in ("string", "hash", "set", "zset", "stream")}
    return [[word.format(**keys) for word in line.split()] for line in lines]
