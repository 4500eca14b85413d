"""Finds the current server of a pipeline: with Sentinels, and in a Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.crc import key_slot

from flowq.broker.client.connection import Dialer
from flowq.broker.client.handshake import CONNECT_TIMEOUT_SECONDS, answer, connected
from flowq.broker.client.redis_errors import translate
from flowq.broker.client.redis_protocol import RedisProtocol
from flowq.broker.client.redis_url import RedisUrl, parse_redis_url
from flowq.broker.client.tls import check_tls_files
from flowq.broker.client.url_options import SENTINEL
from flowq.errors import BrokerRefused, BrokerUnavailable, UsageError

_Address = tuple[str, int]


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
        self._search = _Search(parsed.hosts, self.address, to_sentinel, self._ask, login=login)

    async def dial(self) -> RedisProtocol:
        """A connection to the primary. Raises BrokerUnavailable when no Sentinel knows one, BrokerRefused."""
        host, port = await self._search.first_answer()
        return await connected(self._url.settings, tls=self._url.is_tls, host=host, port=port)

    async def _ask(self, sentinel: RedisProtocol, _: str) -> _Address | None:
        found = await _ask(sentinel, b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._url.service)
        return (found[0].decode(), int(found[1])) if found else None


class ClusterDialer:
    """Connections to the primary of the slot that holds a pipeline: all its keys share one hash tag.

    URL: redis+cluster://[user:password@]host:6379,host:6379, with rediss+cluster:// for TLS.
    """

    is_private = False

    def __init__(self, url: str, hash_tag: str) -> None:
        parsed = _parsed(url, "cluster", "redis+cluster://host:6379")
        self.url = parsed.text
        self.address = str(parsed)
        self._slot: int = key_slot(hash_tag.encode())
        if parsed.is_tls:
            check_tls_files(parsed.options.values)
        self._connect_to = partial(connected, parsed.settings, tls=parsed.is_tls)
        self._search = _Search(parsed.hosts, self.address, self._connect_to, self._ask)

    def beside(self, hash_tag: str, shard: int) -> ClusterDialer:
        """The same for the slot of another shard."""
        dialer = ClusterDialer(self.url, hash_tag)
        dialer.address = f"{self.address} (shard {shard})"
        return dialer

    async def dial(self) -> RedisProtocol:
        """A connection to the slot's primary. Raises BrokerUnavailable when no node knows one, BrokerRefused."""
        host, port = await self._search.first_answer()
        return await self._connect_to(host=host, port=port)

    async def _ask(self, node: RedisProtocol, host: str) -> _Address | None:
        for first, last, primary, *_ in await _ask(node, b"CLUSTER", b"SLOTS"):
            if first <= self._slot <= last:
                return (primary[0] or b"").decode() or host, int(primary[1])
        return None


def dialer_beside(dialer: Dialer, hash_tag: str, shard: int) -> Dialer:
    """Connections to the server of another shard of a pipeline: for one server, the same dialer."""
    return dialer.beside(hash_tag, shard) if isinstance(dialer, ClusterDialer) else dialer


class _Search:
    """Asks one server after the other, each with a deadline of its own: one that is frozen must not hide the rest.

    A server that has not answered moves to the end, so that the next call begins with another one even if this call is
    cancelled.
    """

    def __init__(
        self,
        hosts: tuple[_Address, ...],
        address: str,
        connect_to: Callable[..., Awaitable[RedisProtocol]],
        ask: Callable[[RedisProtocol, str], Awaitable[_Address | None]],
        *,
        login: str = "user and password",
    ) -> None:
        self._login = login
        self._row = list(hosts)
        self._address = address
        self._connect_to = connect_to
        self._ask = ask

    async def first_answer(self) -> _Address:
        """The primary. Raises BrokerRefused if all servers refuse the user, BrokerUnavailable if none knows it."""
        problems: list[Exception] = []
        for host, port in tuple(self._row):
            self._row.append(self._row.pop(0))
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                    found = await self._answer_of(host, port)
            except Exception as error:  # noqa: BLE001  (a transport's, or what an odd answer leads to)
                problems.append(translate(error, f"{host}:{port}"))
                continue
            if found is not None:
                self._row.insert(0, self._row.pop())
                return found
            problems.append(BrokerUnavailable(f"{host}:{port} does not know it"))
        if isinstance(refused := problems[0], BrokerRefused) and all(isinstance(p, BrokerRefused) for p in problems):
            hint = f"check {self._login} of the Redis URL, and what that user may do"
            raise BrokerRefused(refused.message, hint=hint, detail=refused.detail)
        lines = [getattr(problem, "message", str(problem)) for problem in problems]
        raise BrokerUnavailable(
            f"no primary found at {self._address}", hint="check that these servers run", detail="; ".join(lines)
        )

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
