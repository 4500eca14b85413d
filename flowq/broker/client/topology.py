"""Finds the current server of a pipeline: with Sentinels, and in a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any

from redis.crc import key_slot

from flowq.broker.client.handshake import CONNECT_TIMEOUT_SECONDS, answer, connected
from flowq.broker.client.redis_errors import translate
from flowq.broker.client.redis_protocol import RedisProtocol
from flowq.broker.client.redis_url import RedisUrl, parse_redis_url
from flowq.broker.client.tls import check_tls_files
from flowq.broker.client.url_options import SENTINEL
from flowq.errors import BrokerRefused, BrokerUnavailable, UsageError

_Address = tuple[str, int]
_SLOT_UNKNOWN = "no node of the Cluster serves its slot", "redis-cli --cluster check HOST:PORT shows what is missing"


class SentinelDialer:
    """Connections to the server that the Sentinels currently call the primary.

    URL: redis+sentinel://[user:password@]host:26379,host:26379/mymaster[/0], with rediss+sentinel:// for TLS. User,
    password and options are those of the primary. Those of the Sentinels have the same names after `sentinel_`:
    `?sentinel_username=...&sentinel_password=...`. TLS and its options are the same for both unless
    `sentinel_tls=` or `sentinel_ssl_...=` says otherwise.
    """

    is_private = False

    def __init__(self, url: str) -> None:
        parsed = _parsed(url, "sentinel", "redis+sentinel://host:26379/mymaster")
        self.url = parsed.text
        self.address = str(parsed)
        self._url = parsed
        options = parsed.options
        sentinels_tls = parsed.is_tls if options.sentinel_tls is None else options.sentinel_tls
        of_sentinels = {**(options.values if parsed.is_tls == sentinels_tls else {}), **options.sentinel}
        if parsed.is_tls:
            check_tls_files(options.values)
        if sentinels_tls:
            check_tls_files(of_sentinels, SENTINEL if options.sentinel else "")
        login = f"{SENTINEL}username= and {SENTINEL}password="
        to_sentinel = partial(connected, of_sentinels, tls=sentinels_tls)
        unknown = f"no Sentinel knows a service {parsed.service}", "check the name of the service in the Redis URL"
        self._search = _Search(_Row(parsed.hosts), self.address, to_sentinel, self._ask, unknown=unknown, login=login)

    async def dial(self) -> RedisProtocol:
        """A connection to the primary. Raises BrokerUnavailable when no Sentinel knows one, BrokerRefused."""
        host, port = await self._search.first_answer()
        return await connected(self._url.settings, tls=self._url.is_tls, host=host, port=port)

    async def _ask(self, sentinel: RedisProtocol, _: str) -> _Address | None:
        found = await _ask(sentinel, b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._url.service)
        return (found[0].decode(), int(found[1])) if found else None


class ClusterDialer:
    """Connections to the primary of the slot that holds a pipeline: all its keys share one hash tag.

    URL: redis+cluster://[user:password@]host:6379,host:6379, with rediss+cluster:// for TLS. `address` is that URL, and
    from the first connection on the node to which the last one was made.
    """

    is_private = False

    def __init__(self, url: str, hash_tag: str) -> None:
        parsed = _parsed(url, "cluster", "redis+cluster://host:6379")
        self.url = parsed.text
        self.address = str(parsed)
        self.of_all = self.address
        self._shard = ""
        self._slot: int = key_slot(hash_tag.encode())
        if parsed.is_tls:
            check_tls_files(parsed.options.values)
        self._connect_to = partial(connected, parsed.settings, tls=parsed.is_tls)
        self._nodes = _Row(parsed.hosts)
        self._search = _Search(self._nodes, self.address, self._connect_to, self._ask, unknown=_SLOT_UNKNOWN)

    def beside(self, hash_tag: str, shard: int) -> ClusterDialer:
        """The same for the slot of another shard. Both know the same nodes."""
        dialer = self._for_slot(key_slot(hash_tag.encode()), f"{self.of_all} (shard {shard})")
        dialer._shard = f" (shard {shard})"
        return dialer

    async def dial(self) -> RedisProtocol:
        """A connection to the slot's primary. Raises BrokerUnavailable when no node knows one, BrokerRefused."""
        host, port = await self._search.first_answer()
        self.address = f"{host}:{port}{self._shard}"
        try:
            return await self._connect_to(host=host, port=port)
        except Exception as error:
            raise translate(error, f"{host}:{port}, the primary of slot {self._slot}{self._shard}") from error

    async def primary_address(self) -> str:
        """Host and port of the slot's primary. Raises as `dial` does."""
        host, port = await self._search.first_answer()
        return f"{host}:{port}"

    async def primaries(self) -> list[ClusterDialer]:
        """The same for one slot of each primary, which reach all keys. Raises as `dial` does."""
        slots: dict[_Address, int] = {}

        async def ask(node: RedisProtocol, host: str) -> _Address | None:
            for first, _, primary, *_ in await _ask(node, b"CLUSTER", b"SLOTS"):
                slots.setdefault(_address(primary, host), first)
            return next(iter(slots), None)

        await _Search(self._nodes, self.address, self._connect_to, ask, unknown=_SLOT_UNKNOWN).first_answer()
        return [self._for_slot(slot, f"{host}:{port}") for (host, port), slot in sorted(slots.items())]

    def _for_slot(self, slot: int, address: str) -> ClusterDialer:
        dialer = copy(self)
        dialer.address, dialer._slot = address, slot
        dialer._search = _Search(self._nodes, address, self._connect_to, dialer._ask, unknown=_SLOT_UNKNOWN)
        return dialer

    async def _ask(self, node: RedisProtocol, host: str) -> _Address | None:
        """The primary of the slot as this node sees it, which also tells of nodes that the URL does not name."""
        ranges = await _ask(node, b"CLUSTER", b"SLOTS")
        self._nodes.learn(_address(found, host) for _, _, *nodes in ranges for found in nodes)
        for first, last, primary, *_ in ranges:
            if first <= self._slot <= last:
                return _address(primary, host)
        return None

    async def has_no_replica(self) -> bool:
        """Whether a node other than the slot's primary says that the primary has no replica. False if none answers."""
        host, port = await self._search.first_answer()
        known = await self._nodes_and_replicas(host, port)
        others = known[0] - {(host, port)}
        for other in sorted(others):
            with contextlib.suppress(Exception):  # of whatever is wrong with it; the next one may know
                _, primary, n_replicas = await self._nodes_and_replicas(*other)
                return primary == (host, port) and not n_replicas
        return not others and not known[2]

    async def _nodes_and_replicas(self, host: str, port: int) -> tuple[set[_Address], _Address | None, int]:
        """What one node says: all nodes, the primary of the slot, and how many replicas that has."""
        nodes, primary, n_replicas = set[_Address](), None, 0
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            connection = await self._connect_to(host=host, port=port)
            try:
                found = await _ask(connection, b"CLUSTER", b"SLOTS")
            finally:
                await connection.close()
        for first, last, *holders in found:
            addresses = [_address(holder, host) for holder in holders]
            nodes.update(addresses)
            if first <= self._slot <= last:
                primary, n_replicas = addresses[0], len(addresses) - 1
        return nodes, primary, n_replicas


async def others_see_no_replica(dialer: object) -> bool:
    """Whether other servers say so too: a primary that was cut off from its replica lists none."""
    return not isinstance(dialer, ClusterDialer) or await dialer.has_no_replica()


def _address(node: Sequence[Any], asked: str) -> _Address:
    """An empty name stands for the host that was asked."""
    return (node[0] or b"").decode() or asked, int(node[1])


class _Row:
    """Servers in the order in which they are asked: each in turn, and those that did not answer last.

    In turn, because a server that was cut off from the others goes on answering, and is wrong.
    """

    def __init__(self, hosts: Iterable[_Address]) -> None:
        self._hopeful = list(hosts)
        self._silent: list[_Address] = []
        self._given = frozenset(self._hopeful)

    def __iter__(self) -> Iterator[_Address]:
        return iter((*self._hopeful, *self._silent))

    def has_answered(self, server: _Address) -> None:
        self._remove(server)
        self._hopeful.append(server)

    def is_silent(self, server: _Address) -> None:
        self._remove(server)
        self._silent.append(server)

    def learn(self, servers: Iterable[_Address]) -> None:
        """Add the servers that one names. Those that are silent and no longer named by any are forgotten."""
        named = frozenset(servers)
        self._hopeful += sorted(named.difference(self))
        self._silent = [server for server in self._silent if server in named or server in self._given]

    def _remove(self, server: _Address) -> None:
        for row in (self._hopeful, self._silent):
            if server in row:
                row.remove(server)


class _Search:
    """Asks one server after the other, each with a deadline of its own: one that is frozen must not hide the rest.

    A server counts as silent until it answers, so that the next call begins with another one even if this call is
    cancelled.
    """

    def __init__(
        self,
        row: _Row,
        address: str,
        connect_to: Callable[..., Awaitable[RedisProtocol]],
        ask: Callable[[RedisProtocol, str], Awaitable[_Address | None]],
        *,
        unknown: tuple[str, str],
        login: str = "user and password",
    ) -> None:
        """`unknown`: what it means that a server answers and names no primary, and the remedy."""
        self._unknown = unknown
        self._login = login
        self._row = row
        self._address = address
        self._connect_to = connect_to
        self._ask = ask

    async def first_answer(self) -> _Address:
        """The primary. Raises BrokerRefused if all servers refuse the user, BrokerUnavailable if none knows it."""
        problems, n_asked = list[Exception](), 0
        for host, port in tuple(self._row):
            self._row.is_silent((host, port))
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    found = await self._answer_of(host, port)
            except Exception as error:  # noqa: BLE001  (a transport's, or what an odd answer leads to)
                problems.append(translate(error, f"{host}:{port}"))
                continue
            if found is not None:
                self._row.has_answered((host, port))
                return found
            n_asked += 1
        refused = problems[0] if problems else None
        if not n_asked and isinstance(refused, BrokerRefused) and all(isinstance(p, BrokerRefused) for p in problems):
            hint = f"check {self._login} of the Redis URL, and what that user may do"
            raise BrokerRefused(refused.message, hint=hint, detail=refused.detail)
        lines = sorted(getattr(problem, "message", str(problem)) for problem in problems)
        why, remedy = self._unknown if n_asked else ("", "check that these servers run")
        detail = "; ".join([why, *lines] if why else lines)
        raise BrokerUnavailable(f"no primary found at {self._address}", hint=remedy, detail=detail)

    async def _answer_of(self, host: str, port: int) -> _Address | None:
        connection = await self._connect_to(host=host, port=port)
        try:
            return await self._ask(connection, host)
        finally:
            await connection.close()


async def _ask(connection: RedisProtocol, *command: Any) -> Any:
    return await answer(connection, *command, timeout_seconds=CONNECT_TIMEOUT_SECONDS)


def _parsed(url: str, topology: str, example: str) -> RedisUrl:
    parsed = parse_redis_url(url)
    if parsed.topology != topology:
        raise UsageError(f"{parsed} is not of a {topology}", hint=example)
    return parsed
