"""Several servers or Sentinel services that hold the shards of a pipeline in turn."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.client.redis_protocol import Connection
from flowq.broker.client.redis_url import parse_redis_url
from flowq.broker.client.topology import ClusterDialer, SentinelDialer

BETWEEN_URLS = " "  # no URL of Redis may contain one


class ServersDialer:
    """Connections to the server of one shard: shard k is on server k modulo their number.

    URL: redis+servers://[user:password@]host:6379,host:6379[/0], with rediss+servers:// for TLS; a URL of Sentinels
    with several services, redis+sentinel://host:26379/one,two[/0]; or several URLs of one server each.
    """

    is_private = False

    def __init__(self, url: str, servers: Sequence[Dialer], shard: int = 0) -> None:
        self.url = url
        self.servers = servers
        self._server = servers[shard % len(servers)]
        self.address = self._server.address
        self._by_server: dict[int, ServersDialer] = {shard % len(servers): self}

    def beside(self, shard: int) -> ServersDialer:
        """The same for another shard. Shards on one server have one dialer."""
        number = shard % len(self.servers)
        if number not in self._by_server:
            self._by_server[number] = dialer = ServersDialer(self.url, self.servers, shard)
            dialer._by_server = self._by_server
        return self._by_server[number]

    async def dial(self) -> Connection:
        """A new connection to that server. Raises as its own dialer does."""
        return await self._server.dial()


def servers_dialer(url: str) -> ServersDialer:
    """The dialer of shard 0 for a URL of several servers or services. Raises UsageError for a bad URL."""
    urls = _urls_in(url)
    dialer = SentinelDialer if "+sentinel" in urls[0].partition("://")[0] else UrlDialer
    return ServersDialer(url, [dialer(each) for each in urls])


def names_many_servers(url: str) -> bool:
    """Whether shards lie on several servers by their numbers. Raises UsageError for a bad URL."""
    if BETWEEN_URLS in url.strip():
        return all(part.startswith("unix://") for part in url.split(BETWEEN_URLS))
    parsed = parse_redis_url(url)
    return parsed.topology == "servers" or len(parsed.services) > 1


def dialer_beside(dialer: Dialer, hash_tag: str, shard: int) -> Dialer:
    """Connections to the server of another shard of a pipeline. For one server it is the same dialer."""
    match dialer:
        case ClusterDialer():
            return dialer.beside(hash_tag, shard)
        case ServersDialer():
            return dialer.beside(shard)
        case _:
            return dialer


def address_of_all(dialer: Dialer) -> str:
    """The address of a Redis as its URL has it, whichever of its servers a dialer leads to."""
    match dialer:
        case ClusterDialer():
            return dialer.of_all
        case ServersDialer():
            return BETWEEN_URLS.join(str(parse_redis_url(url)) for url in dialer.url.split())
        case _:
            return dialer.address


def _urls_in(url: str) -> list[str]:
    """A URL for each server or service, with the same login, database and options."""
    if BETWEEN_URLS in url:
        return url.split(BETWEEN_URLS)
    parsed = parse_redis_url(url)
    parts = urlsplit(parsed.text)
    if parsed.topology == "sentinel":
        _, slash, database = parts.path.removeprefix("/").partition("/")
        return [urlunsplit(parts._replace(path=f"/{name}{slash}{database}")) for name in parsed.services]
    login, at, hosts = parts.netloc.rpartition("@")
    scheme = parts.scheme.partition("+")[0]
    return [urlunsplit(parts._replace(scheme=scheme, netloc=f"{login}{at}{host}")) for host in hosts.split(",") if host]
