"""Finds the server that holds a pipeline where that can change: behind Sentinels, and in a Cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis.asyncio.connection import Connection
from redis.crc import key_slot
from redis.exceptions import RedisError

from flowq.broker.connection import UrlDialer, redact
from flowq.errors import BrokerUnavailable, UsageError

_SENTINEL_PORT, _REDIS_PORT = 26379, 6379


@dataclass(frozen=True, slots=True)
class Nodes:
    """The servers named in a URL, and how to make URLs of single ones."""

    addresses: tuple[tuple[str, int], ...]
    path: str
    _parts: SplitResult

    @classmethod
    def of(cls, url: str, default_port: int) -> Nodes:
        """Raises UsageError for a URL without hosts."""
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        try:
            addresses = tuple(_address(host, default_port) for host in hosts.split(",") if host)
        except ValueError:
            addresses = ()
        if not addresses:
            raise UsageError(
                f"{redact(url)} names no server",
                hint="redis+sentinel://host:26379,host:26379/mymaster/0 or redis+cluster://host:6379,host:6379",
            )
        return cls(addresses, parts.path.strip("/"), parts)

    def dialer(self, host: str, port: int, database: str = "0", *, with_login: bool = True) -> UrlDialer:
        """Connections to one server, with the user, password, TLS and options of the whole."""
        scheme = self._parts.scheme.partition("+")[0]
        login = self._parts.netloc.rpartition("@")[0] if with_login else ""
        query = f"?{self._parts.query}" if self._parts.query else ""
        name = f"[{host}]" if ":" in host else host
        return UrlDialer(f"{scheme}://{login + '@' if login else ''}{name}:{port}/{database}{query}")


class SentinelDialer:
    """Connections to whichever server the Sentinels call the primary at that moment.

    URL: redis+sentinel://[user:password@]host:26379,host:26379/mymaster[/0], with rediss+sentinel:// for TLS. User
    and password are those of the primary.
    """

    is_private = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = redact(url)
        self._nodes = Nodes.of(url, _SENTINEL_PORT)
        self._service, _, database = self._nodes.path.partition("/")
        self._database = database or "0"
        if not self._service:
            raise UsageError(f"{self.address} names no service", hint="redis+sentinel://host:26379/mymaster")

    async def dial(self) -> Connection:
        """A connection to the primary. Raises BrokerUnavailable when no Sentinel knows one."""
        host, port = await _first_answer(self._nodes, self._ask, self.address, with_login=False)
        return await self._nodes.dialer(host, port, self._database).dial()

    async def _ask(self, sentinel: Connection) -> tuple[str, int] | None:
        answer = await _ask(sentinel, b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service)
        return (answer[0].decode(), int(answer[1])) if answer else None


class ClusterDialer:
    """Connections to the primary of the slot that holds a pipeline: all its keys share one hash tag.

    URL: redis+cluster://[user:password@]host:6379,host:6379, with rediss+cluster:// for TLS.
    """

    is_private = False

    def __init__(self, url: str, hash_tag: str) -> None:
        self.url = url
        self.address = redact(url)
        self._nodes = Nodes.of(url, _REDIS_PORT)
        self._slot: int = key_slot(hash_tag.encode())

    async def dial(self) -> Connection:
        """A connection to the slot's primary. Raises BrokerUnavailable when no node knows one."""
        host, port = await _first_answer(self._nodes, self._ask, self.address, with_login=True)
        return await self._nodes.dialer(host, port).dial()

    async def _ask(self, node: Connection) -> tuple[str, int] | None:
        for first, last, primary, *_ in await _ask(node, b"CLUSTER", b"SLOTS"):
            if first <= self._slot <= last:
                return (primary[0] or b"").decode() or node.host, int(primary[1])
        return None


async def _first_answer(
    nodes: Nodes,
    ask: Callable[[Connection], Awaitable[tuple[str, int] | None]],
    address: str,
    *,
    with_login: bool,
) -> tuple[str, int]:
    problem = "none of them knows where it is"
    for host, port in nodes.addresses:
        try:
            connection = await nodes.dialer(host, port, with_login=with_login).dial()
            try:
                found = await ask(connection)
            finally:
                await connection.disconnect(nowait=True)
        except (RedisError, OSError, TimeoutError) as error:
            problem = str(error)
            continue
        if found is not None:
            return found
    raise BrokerUnavailable(f"no primary to be found at {address}", detail=problem)


async def _ask(connection: Connection, *command: Any) -> Sequence[Any]:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()  # type: ignore[no-any-return]  # pyright: ignore[reportReturnType, reportUnknownVariableType]


def _address(written: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{written}")
    if not parts.hostname:
        raise ValueError(written)
    return parts.hostname, parts.port or default_port
